"""Words for generated run names: an adjective and an animal."""

from __future__ import annotations

ADJECTIVES = (
    "amber", "bold", "brisk", "bright", "calm", "candid", "clever", "cosy", "dapper", "deft", "dusty", "eager", "early", "fair", "gentle", "golden",
    "hardy", "honest", "humble", "jolly", "keen", "kind", "lively", "lucid", "mellow", "merry", "mild", "misty", "modest", "nimble", "noble", "patient",
    "plain", "plucky", "polite", "proud", "quick", "quiet", "rapid", "rustic", "salty", "sandy", "sharp", "shy", "silent", "silver", "sleek", "smart",
    "snowy", "solid", "stern", "still", "sunny", "swift", "tidy", "tiny", "vivid", "warm", "wild", "wise",
)  # fmt: skip
ANIMALS = (
    "adder", "alpaca", "badger", "beaver", "bison", "bittern", "camel", "crane", "curlew", "dingo", "dunlin", "egret", "falcon", "ferret", "finch", "gecko",
    "gibbon", "grouse", "hare", "heron", "ibex", "jackal", "kestrel", "kite", "lark", "lemur", "linnet", "lizard", "lynx", "marten", "mole", "moose",
    "newt", "ocelot", "okapi", "osprey", "otter", "owl", "panda", "petrel", "pipit", "plover", "puffin", "quail", "rabbit", "raven", "robin", "seal",
    "shrew", "siskin", "stoat", "stork", "swan", "tapir", "tern", "toad", "vole", "walrus", "weasel", "wombat", "wren", "yak", "zebra",
)  # fmt: skip
