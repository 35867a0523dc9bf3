"""Put a `FakeServices` in the place of functions of `client`, `store` and `system`.

The app looks functions up as `client.queue.move`: a fake module stands in its package, with the
fake's functions before the real ones.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from importlib import import_module
from operator import attrgetter
from types import ModuleType, SimpleNamespace
from typing import TYPE_CHECKING, Any

from rnnlm_tui.schema.queue import QueueListing

if TYPE_CHECKING:
    from tests.tui.fakes import FakeServices

PLACES: dict[str, str | Callable[..., Any]] = {
    "client.checkpoint_detail.read_detail": "checkpoint_files.detail",
    "client.checkpoints.quick_problems": "checkpoint_files.problems",
    "client.checkpoints.rows_on_disk": "checkpoints",
    "client.control.send": "send",
    "client.corpora.preview": "preview",
    "client.corpora.token_preview": "token_preview",
    "client.estimate.estimate": "estimate",
    "client.estimate.warning_before_start": "warning_before_start",
    "client.gpus.device_choice": "device_choice",
    "client.listing.RunList": "run_list",
    "client.monitor.RunMonitor": "reporting_monitor",
    "client.pretrained.tokenizer_size": "tokenizer_size",
    "client.queue.ensure_running": lambda _fake: "",
    "client.queue.list_queue": lambda fake, _runs: fake.queue or QueueListing(),
    "client.sampler.SamplerClient": lambda fake, **_: fake.sampler(),
    "client.start.check_draft_before_start": "check_draft_before_start",
    "client.start.check_source": "check_source",
    "client.start.parent_at": "parent_at",
    "client.start.resume_run": "resume",
    "client.start.start_draft": "start_saved",
    "client.start.start_run": "start",
    "client.start.with_available_corpus": lambda fake, _config: fake.demo_config,
    "client.steering.read_steering": "steering",
    "client.steering.steer": "steer",
    "store.corpora.find_corpus": "corpus",
    "store.manifest.read_manifest": "manifest",
    "store.manifest.verify_checkpoint": "verify",
    "store.paths.queue_file": lambda fake: SimpleNamespace(exists=fake.queue_is_there),
    "store.reader.RunReader": "reader",
    "store.retention.plan_prune": "checkpoint_files.plan_prune",
    "store.runs.create_run": "create_run",
    "store.runs.find_run": "find",
    "store.runs.suggest_name": "suggest_name",
    "system.machine.MachineReader": lambda fake, _home, worker: fake.machine_reader(),
    "system.machine.describe_machine": lambda fake, _home: fake.machine(),
    "system.processes.ends_at_logout": "ends_at_logout",
    "tui.folders.save_text": "save_text",
    "tui.screens.config.read_draft": "read_draft",
    "tui.screens.config_files.write_draft": "write_draft",
    "tui.screens.log.LogFollower": "log",
}
"""For each function that the app calls: the method of the fake, or a function of it and the
arguments. A method that the fake lacks leaves the real function."""

LAZY = ("client", "store")
"""Packages whose modules the app looks up in the package."""
_put: list[tuple[object, str, object]] = []
"""What was replaced, with the real one."""


class FakeModule(ModuleType):
    """A module with some other functions."""

    def __init__(self, real: ModuleType) -> None:
        super().__init__(real.__name__)
        self._real = real

    def __getattr__(self, name: str) -> object:
        return getattr(self._real, name)


def put_in_place(services: FakeServices) -> None:
    """Let the app use these services in place of the real functions, until `take_out`."""
    take_out()
    for place, call in PLACES.items():
        name, function = place.rsplit(".", 1)
        module = import_module(f"rnnlm_tui.{name}")
        package, _, part = name.partition(".")
        if package in LAZY:
            owner = import_module(f"rnnlm_tui.{package}")
            if not isinstance(vars(owner)[part], FakeModule):
                _put.append((owner, part, module))
                setattr(owner, part, FakeModule(module))
            module = vars(owner)[part]
        else:
            _put.append((module, function, getattr(module, function)))
        if callable(call):
            setattr(module, function, partial(call, services))
        elif _has(services, call):
            setattr(module, function, partial(_call, services, call))


def take_out() -> None:
    """Put the real functions back."""
    while _put:
        setattr(*_put.pop())


def _has(services: FakeServices, method: str) -> bool:
    try:
        attrgetter(method)(services)
    except AttributeError:
        return False
    return True


def _call(services: FakeServices, method: str, *arguments: Any, **named: Any) -> Any:
    """Call the method that the fake has now: a test may replace it meanwhile."""
    return attrgetter(method)(services)(*arguments, **named)
