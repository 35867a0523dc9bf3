"""Start a run from its parent's weights, with its parent's tokenizer.

The new run begins at step 0 of its own schedule, with a zero state and its own data order: only the
weights are the parent's, and the optimizer's state if the user has asked for it.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from tokenizers import Tokenizer

from rnnlm_tui.corpus.corpus import PreparedCorpus
from rnnlm_tui.corpus.tokenizers import TOKENIZER_NAME
from rnnlm_tui.engine.checkpoint import load_weights
from rnnlm_tui.engine.model import RecurrentLanguageModel
from rnnlm_tui.errors import CheckpointError
from rnnlm_tui.schema.config import RunConfig, TokenizerConfig
from rnnlm_tui.schema.facts import Parent
from rnnlm_tui.schema.formatting import counted
from rnnlm_tui.store.lineage import PARENT_FOLDER, read_parent
from rnnlm_tui.store.manifest import verify_checkpoint
from rnnlm_tui.store.paths import RunDirectory
from rnnlm_tui.worker.recorder import Attempt


def find_start(run: RunDirectory) -> Parent | None:
    """The parent whose weights a run starts from, verified; None: initial weights.

    Raises:
        CheckpointError: the weights are damaged or missing.
        StorageError: `parent.json` is damaged.
    """
    parent = read_parent(run)
    if parent is not None:
        verify_checkpoint(run.path / PARENT_FOLDER)
    return parent


def load_parent(
    attempt: Attempt, parent: Parent, model: RecurrentLanguageModel, tokenizer_files: Path
) -> None:
    """Copy the parent's weights into a new model, and note it in the run's events.

    Args:
        tokenizer_files: folder of the prepared corpus.

    Raises:
        CheckpointError: the weights or the vocabulary don't fit.
    """
    folder = attempt.run.path / PARENT_FOLDER
    theirs, ours = vocabulary(folder), vocabulary(tokenizer_files)
    if theirs != ours:
        raise CheckpointError(
            f"{parent.address} and this corpus have different vocabularies"
            f" ({counted(len(theirs), 'type')} and {len(ours):,})",
            hint=(
                "use its corpus and tokenizer, or set tokenizer.kind=pretrained and"
                f" tokenizer.name={folder}"
            ),
        )
    try:
        load_weights(folder, model, separate=True)
    except CheckpointError as error:
        raise CheckpointError(
            f"{parent.address} doesn't fit this config: {error.message}",
            hint="use the parent's values in the model section",
        ) from error
    kept = " and its optimizer's state" if parent.optimizer == "keep" else ""
    attempt.note(0, f"starts from the weights of {parent.address}{kept}")


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
