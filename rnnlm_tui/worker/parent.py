"""Start a run from its parent's weights, with its parent's tokenizer.

The new run begins at step 0 of its own schedule, with a zero state and its own data order: only the
weights are the parent's, and the optimizer's state if the user has asked for it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tokenizers import Tokenizer

from rnnlm_tui.corpus.corpus import PreparedCorpus
from rnnlm_tui.corpus.tokenizers import TOKENIZER_NAME
from rnnlm_tui.engine.checkpoint import load_optimizer_state, load_weights
from rnnlm_tui.engine.model import RecurrentLanguageModel
from rnnlm_tui.engine.trainer import Trainer
from rnnlm_tui.errors import CheckpointError
from rnnlm_tui.schema.config import RunConfig, TokenizerConfig
from rnnlm_tui.schema.formatting import counted
from rnnlm_tui.schema.lineage import OptimizerStart, Parent
from rnnlm_tui.store.lineage import PARENT_FOLDER, read_parent
from rnnlm_tui.store.manifest import verify_checkpoint
from rnnlm_tui.store.paths import RunDirectory
from rnnlm_tui.worker.recorder import Attempt


@dataclass(frozen=True, slots=True)
class Start:
    """The weights that a run starts from, verified."""

    address: str
    """`plain-otter@1500`."""
    folder: Path
    optimizer: OptimizerStart = "fresh"

    def load_weights(
        self, attempt: Attempt, model: RecurrentLanguageModel, tokenizer_files: Path
    ) -> None:
        """Copy the weights into a new model, and note it in the run's events.

        Args:
            tokenizer_files: folder of the prepared corpus.

        Raises:
            CheckpointError: the weights or the vocabulary don't fit.
        """
        theirs, ours = vocabulary(self.folder), vocabulary(tokenizer_files)
        if theirs != ours:
            raise CheckpointError(
                f"{self.address} and this corpus have different vocabularies"
                f" ({counted(len(theirs), 'type')} and {len(ours):,})",
                hint=(
                    "use its corpus and tokenizer, or set tokenizer.kind=pretrained and"
                    f" tokenizer.name={self.folder}"
                ),
            )
        try:
            load_weights(self.folder, model, separate=True)
        except CheckpointError as error:
            raise CheckpointError(
                f"{self.address} doesn't fit this config: {error.message}",
                hint="use the parent's values in the model section",
            ) from error
        kept = " and its optimizer's state" if self.optimizer == "keep" else ""
        attempt.note(0, f"starts from the weights of {self.address}{kept}")

    def load_optimizer(self, trainer: Trainer) -> None:
        """Load the optimizer's state if it is kept.

        Raises:
            CheckpointError: it is missing or damaged, or doesn't fit.
        """
        if self.optimizer == "keep":
            load_optimizer_state(self.folder, trainer)


def find_start(run: RunDirectory) -> Start | None:
    """The weights that a run starts from; None: initial weights.

    Raises:
        CheckpointError: the weights are damaged or missing.
        StorageError: `parent.json` is damaged.
    """
    parent = read_parent(run)
    if parent is None:
        return None
    folder = run.path / PARENT_FOLDER
    verify_checkpoint(folder)
    return Start(parent.address, folder, parent.optimizer)


def prepare_for_start(
    run: RunDirectory,
    config: RunConfig,
    prepare: Callable[[TokenizerConfig], PreparedCorpus],
) -> PreparedCorpus:
    """Prepare a run's corpus, with its parent's tokenizer if that would be another.

    With the parent's text, the same tokenizer results, and the corpus is already there. Another
    text, or the same file with other content, is split by the parent's own tokenizer.

    Args:
        prepare: prepares the corpus with this tokenizer.

    Raises: as `prepare` and `find_start`.
    """
    parent = read_parent(run)
    if parent is None or config.tokenizer.kind in ("byte", "pretrained"):
        return prepare(config.tokenizer)
    folder = run.path / PARENT_FOLDER
    if not _changes_text(parent):
        prepared = prepare(config.tokenizer)
        if vocabulary(prepared.path) == vocabulary(folder):
            return prepared
    verify_checkpoint(folder)
    return prepare(
        TokenizerConfig(
            kind="pretrained",
            vocab_size=len(vocabulary(folder)),
            name=str(folder),
            end_of_sentence=config.tokenizer.end_of_sentence,
        )
    )


def vocabulary(folder: Path) -> dict[str, int]:
    """The tokens of a tokenizer's folder with their ids."""
    tokenizer: Tokenizer = Tokenizer.from_file(str(folder / TOKENIZER_NAME))
    return dict(tokenizer.get_vocab(with_added_tokens=True))


def _changes_text(parent: Parent) -> bool:
    """Whether the run has another corpus section than its parent; downloads are the same text."""
    return any(path.startswith("corpus.") and path != "corpus.url" for path in parent.changed)
