"""Kept states: their files, names, list and header."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from safetensors.torch import save

from rnnlm_tui.errors import InputError, StorageError
from rnnlm_tui.store.paths import states_dir
from rnnlm_tui.store.states import (
    METADATA_KEY,
    StateInfo,
    check_state_name,
    copy_state,
    delete_state,
    find_state,
    free_state_name,
    list_states,
    new_state_path,
    read_state_info,
    restore_state,
    write_state_file,
)


def info(name: str, **changes: object) -> StateInfo:
    facts: dict[str, object] = {
        "name": name,
        "created": 1_000.0,
        "run": "plain-otter",
        "step": 3_700,
        "cell_type": "lstm",
        "num_layers": 2,
        "hidden_size": 1_024,
        "vocab_size": 2_048,
        "tokenizer": "ab" * 32,
        "text": "The state of the Union\n",
        "tokens": 9,
    }
    return StateInfo.model_validate(facts | changes)


def keep(name: str, **changes: object) -> Path:
    """Write a state as the sampler does, and return its file."""
    path = new_state_path(name)
    tensors = {"layer.0.0": torch.zeros(1, 4), "ids": torch.arange(9, dtype=torch.int32)}
    write_state_file(path, save(tensors, {METADATA_KEY: info(name, **changes).header()}))
    return path


def test_a_kept_state_is_found_by_name_and_by_file_with_what_it_is_of(tmp_path: Path) -> None:
    path = keep("before-the-colon", note="after the quote")
    found = find_state("before-the-colon")
    assert found == info(
        "before-the-colon", note="after the quote", path=path, bytes=path.stat().st_size
    )
    assert found.shape == "lstm, 2 x 1,024"
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700
    elsewhere = tmp_path / "copied.safetensors"
    elsewhere.write_bytes(path.read_bytes())
    assert find_state(str(elsewhere)).name == "copied"
    assert find_state(str(elsewhere)).text == found.text


def test_states_are_listed_newest_first_and_other_files_are_left_out() -> None:
    assert list_states() == []
    for name, created in (("b", 2.0), ("a", 2.0), ("c", 3.0)):
        keep(name, created=created)
    (states_dir() / ".tmp-x-d.safetensors").write_bytes(b"")
    (states_dir() / "notes.txt").write_text("")
    assert [state.name for state in list_states()] == ["c", "a", "b"]


def test_a_state_is_never_written_through_a_link_to_another_folder(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    states_dir().parent.mkdir()
    states_dir().symlink_to(elsewhere)
    with pytest.raises(StorageError, match="symbolic link") as caught:
        keep("x")
    assert "symbolic link" in caught.value.hint
    assert list(elsewhere.iterdir()) == []


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: b"",
        lambda data: data[:-1],
        lambda data: data.replace(b"rnnlm_state", b"other_state"),
        lambda data: data.replace(b"num_layers", b"num_lawyer"),
        lambda data: data.replace(b"1000.0", b"1e0300"),
    ],
    ids=["empty", "cut", "no key", "no field", "in no year"],
)
def test_a_damaged_file_is_listed_with_its_problem_and_refused(damage: object) -> None:
    path = keep("x")
    assert callable(damage)
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(StorageError, match=r"x\.safetensors is damaged"):
        find_state("x")
    [listed] = list_states()
    assert (listed.name, listed.path) == ("x", path)
    assert "damaged" in (listed.problem or "")
    delete_state("x")
    assert list_states() == []


def test_a_pipe_among_the_states_never_blocks() -> None:
    path = keep("x")
    path.unlink()
    os.mkfifo(path)
    assert list_states()[0].problem


def test_of_two_that_keep_a_state_of_one_name_at_once_one_is_refused() -> None:
    path = new_state_path("same")

    def write(number: int) -> bool:
        try:
            write_state_file(path, b"%d" % number * 100_000)
        except InputError:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        done = list(pool.map(write, range(8)))
    assert done.count(True) == 1
    assert path.read_bytes() == b"%d" % done.index(True) * 100_000


def test_a_name_is_checked_and_a_taken_one_refused_with_a_free_one() -> None:
    for name in ("", "a b", "-x", ".x", "a/b", "x" * 65):
        with pytest.raises(InputError, match="invalid name for a state"):
            check_state_name(name)
    keep("a")
    with pytest.raises(InputError, match='a state "a" exists already') as caught:
        new_state_path("a")
    assert "a-2" in caught.value.hint
    assert free_state_name("a") == "a-2"
    assert free_state_name("«the state»") == "the-state"
    assert free_state_name("«»") == "state"
    with pytest.raises(InputError, match="exists already"):
        write_state_file(states_dir() / "a.safetensors", b"")


def test_an_unknown_name_is_refused_with_a_similar_one() -> None:
    with pytest.raises(InputError, match='no kept state "x"') as caught:
        find_state("x")
    assert caught.value.hint == "no state is kept yet"
    keep("otter")
    with pytest.raises(InputError) as caught:
        find_state("oter")
    assert 'did you mean "otter"?' in caught.value.hint
    for wrong in ("nothing", "../states/otter"):
        with pytest.raises(InputError, match="no kept state"):
            delete_state(wrong)
    with pytest.raises(InputError, match="no file"):
        find_state("/nowhere/x.safetensors")


def test_a_deleted_state_can_be_restored_unless_its_name_is_taken() -> None:
    path = keep("a")
    data = path.read_bytes()
    deleted = delete_state("a")
    assert not path.exists()
    restore_state(deleted)
    assert path.read_bytes() == data
    assert read_state_info(path).name == "a"
    delete_state("a")
    keep("a", step=1)
    with pytest.raises(InputError, match="exists already"):
        restore_state(deleted)
    assert find_state("a").step == 1


def test_a_state_is_copied_to_a_new_file_or_into_a_folder(tmp_path: Path) -> None:
    state = keep("a")
    for path, target in (("b", "b.safetensors"), ("c.x", "c.x"), ("", "a.safetensors")):
        copy = copy_state(state, str(tmp_path / path) if path else str(tmp_path))
        assert copy == tmp_path / target
        assert copy.read_bytes() == state.read_bytes()
    with pytest.raises(InputError, match="exists already"):
        copy_state(state, str(tmp_path / "b"))
