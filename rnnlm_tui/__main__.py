"""Run the command `rnnlm-tui` with `python -m rnnlm_tui`."""

from rnnlm_tui.cli.main import main

if __name__ == "__main__":
    main()
