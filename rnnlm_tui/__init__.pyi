from rnnlm_tui.api import Model as Model
from rnnlm_tui.api import Run as Run
from rnnlm_tui.api import load as load
from rnnlm_tui.api import run as run
from rnnlm_tui.api import runs as runs

__version__: str
