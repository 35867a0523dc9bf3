"""Invented outcomes of `compare --test`."""

from __future__ import annotations

from rnnlm_tui.schema.significance import (
    ComparedModel,
    ComparedSentence,
    KindOfToken,
    SignificanceDone,
    Unit,
)

KINDS = {
    "times in training": (("1 to 9", 310, 8.9), ("1,000 to 9,999", 9_120, 4.4)),
    "part of a word": (("first of a word", 7_412, 4.9), ("end of sentence", 402, 0.3)),
}


def compared(letter: str, low: float, high: float, name: str = "brisk-heron@4754") -> ComparedModel:
    """A model with this interval; empty for the first."""
    sentences = (
        ComparedSentence(number=12, text="A nation that reads, writes.", difference=-7.5),
        ComparedSentence(number=1_204, text="We shall see.", difference=3.25),
    )
    return ComparedModel(
        letter=letter,
        address=name,
        path=f"/{name}",
        loss=4.012 + (low + high) / 2,
        size=21_000,
        difference=(low + high) / 2,
        low=low,
        high=high,
        sentences=sentences if letter != "A" else (),
    )


def outcome(*others: ComparedModel, unit: Unit = "nats per token") -> SignificanceDone:
    """These compared with plain-otter."""
    models = compared("A", 0.0, 0.0, "plain-otter@4000"), *others
    return SignificanceDone(
        unit=unit,
        sentences=402,
        models=models,
        kinds=tuple(
            KindOfToken(
                family=family,
                kind=kind,
                tokens=tokens,
                losses=tuple(loss + model.difference for model in models),
            )
            for family, kinds in KINDS.items()
            for kind, tokens, loss in kinds
        ),
        left_out=(),
    )
