"""Slots of the rate limit in flows, in both drivers, and in a file that processes share."""

from __future__ import annotations

import asyncio
import fcntl
import logging
import multiprocessing
import os
import threading
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_bitrix24 import pacing
from airflow_provider_bitrix24.api.authorised import Authorised
from airflow_provider_bitrix24.api.client import ApiClient
from airflow_provider_bitrix24.api.io import Effect, NotSent, Request, Reserve, SendDeadline, Sleep, Slot, Unknown
from airflow_provider_bitrix24.api.pacing import Limits
from airflow_provider_bitrix24.api.retry import REPEATS
from airflow_provider_bitrix24.drivers import arun, make_client
from airflow_provider_bitrix24.exceptions import Bitrix24Error, Bitrix24NotSent, Bitrix24RateLimited
from airflow_provider_bitrix24.pacing import HostPacer
from tests.api.scripted import client, error_response, json_response, portal
from tests.drivers.raw_server import OK as ANSWERED
from tests.drivers.raw_server import Peer, settings_for

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from airflow_provider_bitrix24.api.settings import Settings

METHOD = "crm.item.payment.add"
READ, IDEMPOTENT = Effect.READ, Effect.IDEMPOTENT
OK = json_response({"result": 1})
BUSY = error_response("QUERY_LIMIT_EXCEEDED", "Too many requests", 503)
DEADLINE = SendDeadline(monotonic=1e9, wall=1e12)
SLOW = Limits(10, 0.1)
"""Eight at once, then one every ten seconds."""


class Told:
    """What a flow has asked for, and how it ended; answered with these."""

    def __init__(self, flow: Any, *answers: Any) -> None:
        self.commands: list[Any] = []
        self.error: Bitrix24Error | None = None
        self.value: Any = None
        todo = list(answers)
        answer: Any = None
        try:
            while True:
                self.commands.append(flow.send(answer))
                answer = None if isinstance(self.commands[-1], Sleep) else todo.pop(0)
        except StopIteration as end:
            self.value = end.value
        except Bitrix24Error as error:
            self.error = error
        assert todo == []

    @property
    def order(self) -> list[str]:
        return [type(command).__name__ for command in self.commands]

    def of(self, kind: type) -> list[Any]:
        return [command for command in self.commands if isinstance(command, kind)]


def paced(**extra: Any) -> ApiClient:
    return ApiClient(portal(**extra), paced=True)


# ------------------------------------------------------------------------------------------------------------- flows


@pytest.mark.parametrize("effect", Effect)
def test_each_request_books_a_slot_and_waits_for_it(effect: Effect) -> None:
    told = Told(paced().call(METHOD, effect=effect), Slot(0.0), OK)
    assert told.order == ["Reserve", "Request"]
    assert told.commands[0] == Reserve(within=120)
    told = Told(paced().call(METHOD, effect=effect), Slot(3.5), OK)
    assert told.order == ["Reserve", "Sleep", "Request"]
    assert told.commands[1] == Sleep(3.5, f"The portal's rate limit: {METHOD} will be sent")


def test_a_batch_is_one_request() -> None:
    commands = {str(number): ("crm.deal.get", {"id": number}) for number in range(50)}
    reply = json_response({"result": {"result": dict.fromkeys(commands, 1), "result_error": [], "result_time": []}})
    assert Told(paced().batch(commands), Slot(0.0), reply).order == ["Reserve", "Request"]


def test_a_repeat_books_again_and_says_that_the_burst_is_gone() -> None:
    told = Told(paced().call(METHOD, effect=READ), Slot(0.0), Unknown("reset"), Slot(0.0), BUSY, Slot(1.0), OK)
    assert told.order == ["Reserve", "Request", "Sleep", "Reserve", "Request", "Sleep", "Reserve", "Sleep", "Request"]
    assert [command.drained for command in told.of(Reserve)] == [False, False, True]


def test_all_waits_of_a_call_share_one_patience() -> None:
    told = Told(paced(rate_limit_wait=60).call(METHOD, effect=READ), Slot(50.0), BUSY, Slot(0.0), OK)
    [first, second], [_, jitter] = told.of(Reserve), told.of(Sleep)
    assert first.within == 60
    assert second.within == pytest.approx(10 - jitter.seconds)
    told = Told(paced(rate_limit_wait=50).call(METHOD, effect=READ), Slot(50.0), BUSY)
    assert isinstance(told.error, Bitrix24RateLimited)


def test_no_slot_in_time_is_the_rate_limits_error() -> None:
    told = Told(paced(rate_limit_wait=7).call(METHOD, effect=IDEMPOTENT), Slot(33.0, granted=False))
    error = told.error
    assert isinstance(error, Bitrix24RateLimited)
    assert (error.final, error.retry_after, error.status) == (False, 33.0, 0)
    assert told.order == ["Reserve"]
    assert str(error) == (
        f"Not sent: the portal's rate limit. {METHOD} would have to wait 33 s behind other requests, and may wait 7 s "
        "more (rate_limit_wait). The call was not executed. Come back in 33 s."
    )
    assert error.reason == "Not sent: the portal's rate limit"


def test_a_write_has_its_slot_before_its_deadline() -> None:
    one = paced()
    assert Told(one.reserve(), Slot(2.0)).commands == [
        Reserve(within=120),
        Sleep(2.0, "The portal's rate limit: The write will be sent"),
    ]
    assert Told(one.reserve(), Slot(2.0)).value == 2.0
    assert Told(one.call(METHOD, effect=IDEMPOTENT, deadline=DEADLINE), OK).order == ["Request"]


@pytest.mark.parametrize("outcome", [BUSY, NotSent("refused")])
def test_with_a_deadline_a_write_is_sent_once(outcome: Any) -> None:
    told = Told(paced().call(METHOD, effect=IDEMPOTENT, deadline=DEADLINE), outcome)
    assert told.order == ["Request"]
    assert isinstance(told.error, Bitrix24RateLimited | Bitrix24NotSent)


def test_what_is_not_paced_books_nothing() -> None:
    assert Told(client().reserve()).value == 0.0
    assert Told(client().call(METHOD, effect=READ), OK).order == ["Request"]


def test_a_flow_with_access_tokens_gets_its_slots() -> None:
    flow = Authorised(paced().call(METHOD, effect=READ))
    told = Told(flow.stretch("token"), Slot(4.0), OK)
    assert told.order == ["Reserve", "Sleep", "Request"]
    assert flow.value.result == 1


# ------------------------------------------------------------------------------------------------------ retry quota


def requests_of(one: ApiClient, outcome: Any) -> int:
    """How often a call that meets nothing else is sent."""
    flow, answer, sent = one.call(METHOD, effect=READ), None, 0
    try:
        while True:
            answer = outcome if isinstance(flow.send(answer), Request) else None
            sent += answer is not None
    except (StopIteration, Bitrix24Error):
        return sent


@pytest.mark.parametrize("outcome", [Unknown("reset"), NotSent("refused")])
def test_a_portal_that_fails_everything_is_left_alone(outcome: Any) -> None:
    one = client()
    assert [requests_of(one, outcome) for _ in range(100)] == [3] * (REPEATS // 2) + [1] * (100 - REPEATS // 2)


def test_refusals_for_the_rate_limit_count_too() -> None:
    one = client()
    sent = [requests_of(one, BUSY) for _ in range(30)]
    assert sum(sent) == 30 + REPEATS
    assert sent[-1] == 1


def test_each_success_gives_one_repeat_back() -> None:
    one = client()
    assert requests_of(one, OK) == 1
    while requests_of(one, Unknown("reset")) > 1:
        pass
    assert requests_of(one, OK) == 1
    assert requests_of(one, Unknown("reset")) == 2
    for _ in range(2):
        requests_of(one, OK)
    assert requests_of(one, Unknown("reset")) == 3
    assert requests_of(one, Unknown("reset")) == 1


# ---------------------------------------------------------------------------------------------------------- drivers


class Gate:
    """Keeps slots, in an order with what the server sees."""

    def __init__(self, seen: list[str], wait: float = 0.0) -> None:
        self.seen = seen
        self.wait = wait

    def reserve(self, command: Reserve) -> Slot:
        self.seen.append("slot")
        return Slot(self.wait)


def test_both_drivers_book_before_they_send(
    serve: Callable[..., Any], driver: Callable[[Settings], Any], caplog: pytest.LogCaptureFixture
) -> None:
    seen: list[str] = []

    def script(peer: Peer) -> None:
        while peer.read_request():
            seen.append("request")
            peer.send(ANSWERED)

    settings = settings_for(serve(script).port)
    drive = driver(settings)
    drive.pacer = Gate(seen, wait=0.01)
    with caplog.at_level(logging.INFO):
        drive(ApiClient(settings, paced=True).call(METHOD, effect=READ))
    drive(ApiClient(settings, paced=True).reserve())
    assert seen == ["slot", "request", "slot"]
    assert f"The portal's rate limit: {METHOD} will be sent in 0.0 s." in caplog.text
    drive.pacer = None
    drive(ApiClient(settings, paced=True).call(METHOD, effect=READ))
    assert seen[3:] == ["request"]


def test_the_event_loop_goes_on_while_a_slot_is_booked() -> None:
    """The bucket's lock is only released by something that runs in the same event loop."""
    released = threading.Event()

    class Stuck:
        def reserve(self, command: Reserve) -> Slot:
            return Slot(0.0, granted=not released.wait(60))

    async def main() -> None:
        settings = settings_for(1)
        async with make_client(settings) as client:
            flow = asyncio.create_task(arun(ApiClient(settings, paced=True).reserve(), client, Stuck()))
            await asyncio.sleep(0)
            released.set()
            with pytest.raises(Bitrix24RateLimited):  # it was not granted: the event was set in time
                await flow

    asyncio.run(main())


# ------------------------------------------------------------------------------------------------- the file of a host


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "buckets"


@pytest.fixture(autouse=True)
def nothing_warned(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(pacing, "_warned", set())
    return


class Clock:
    def __init__(self, now: float = 1000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


def waits(pacer: Any, count: int, within: float = 1e6) -> list[float]:
    return [pacer.reserve(Reserve(within=within)).wait for _ in range(count)]


def test_two_hooks_share_the_bucket_of_a_portal(folder: Path) -> None:
    clock = Clock()
    one, two = (HostPacer("acme.bitrix24.com", SLOW, folder=folder, clock=clock) for _ in range(2))
    other = HostPacer("other.bitrix24.com", SLOW, folder=folder, clock=clock)
    assert waits(one, 5) + waits(two, 5) == [0.0] * 8 + [10.0, 20.0]
    assert waits(other, 1) == [0.0]
    clock.now += 25
    assert waits(one, 1) == [5.0]
    assert one.reserve(Reserve(within=14.9)) == Slot(15.0, granted=False)
    assert two.reserve(Reserve(within=1e6, drained=True)) == Slot(15.0)
    assert (folder.stat().st_mode & 0o777, len(list(folder.iterdir()))) == (0o700, 2)
    assert all(file.stat().st_mode & 0o777 == 0o600 for file in folder.iterdir())
    assert not any("acme" in file.name for file in folder.iterdir())


def test_after_a_reboot_the_clock_begins_again(folder: Path) -> None:
    waits(HostPacer("acme", SLOW, folder=folder, clock=Clock(1e6)), 10)
    assert waits(HostPacer("acme", SLOW, folder=folder, clock=Clock(50.0)), 1) == [30.0]


def test_the_folder_is_this_users_own_among_the_temporary_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    assert waits(HostPacer("acme", SLOW), 9)[-1] > 0
    [folder] = tmp_path.iterdir()
    assert folder.name == f"airflow-provider-bitrix24-{os.geteuid()}"
    monkeypatch.setattr("tempfile.tempdir", None)
    monkeypatch.setattr("tempfile._candidate_tempdir_list", list)
    assert waits(HostPacer("acme", SLOW), 9) == [0.0] * 9, "there is no place for temporary files at all"


def linked(folder: Path) -> None:
    (folder.parent / "elsewhere").mkdir(0o700)
    folder.symlink_to(folder.parent / "elsewhere")


def open_to_all(folder: Path) -> None:
    folder.mkdir()
    folder.chmod(0o777)


def a_file(folder: Path) -> None:
    folder.touch()


def with_a_linked_bucket(folder: Path) -> None:
    waits(HostPacer("acme", SLOW, folder=folder), 1)
    [bucket] = folder.iterdir()
    bucket.unlink()
    (folder.parent / "victim").write_bytes(b"precious")
    bucket.symlink_to(folder.parent / "victim")


def with_a_folder_for_a_bucket(folder: Path) -> None:
    waits(HostPacer("acme", SLOW, folder=folder), 1)
    [bucket] = folder.iterdir()
    bucket.unlink()
    bucket.mkdir()


@pytest.mark.parametrize(
    "made",
    [linked, open_to_all, a_file, with_a_linked_bucket, with_a_folder_for_a_bucket],
    ids=lambda made: made.__name__,
)
def test_a_folder_that_is_not_ours_alone_is_not_used(
    made: Callable[[Path], None], folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    made(folder)
    assert waits(HostPacer("acme", SLOW, folder=folder), 20) == [0.0] * 20, "they go on"
    [record] = caplog.records
    assert "are not paced on this host" in record.message
    assert "set the extra rate_limit to off" in record.message
    if made is with_a_linked_bucket:
        assert (folder.parent / "victim").read_bytes() == b"precious"


def test_a_folder_of_another_user_is_not_used(
    folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    folder.mkdir(0o700)
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    assert waits(HostPacer("acme", SLOW, folder=folder), 20) == [0.0] * 20
    assert list(folder.iterdir()) == []
    assert len(caplog.records) == 1


def test_whoever_is_stopped_with_the_lock_stops_nobody(
    folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(pacing, "LOCK_TIMEOUT", 0.05)
    one = HostPacer("acme", SLOW, folder=folder)
    waits(one, 8)
    [bucket] = folder.iterdir()
    with bucket.open() as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert waits(one, 2) == [0.0] * 2
    assert len(caplog.records) == 1
    assert waits(one, 1)[0] > 0


@pytest.mark.parametrize("content", [b"", b"short", b"\xff" * 16, b"\x00" * 40])
def test_a_damaged_file_is_written_again(folder: Path, content: bytes) -> None:
    one = HostPacer("acme", SLOW, folder=folder, clock=Clock())
    waits(one, 1)
    [bucket] = folder.iterdir()
    bucket.write_bytes(content)
    assert waits(one, 9) == [0.0] * 8 + [10.0]


def book_in_a_process(pacer: HostPacer, count: int, pipe: Any) -> None:
    pipe.send(waits(pacer, count))


def test_processes_never_get_the_same_slot(folder: Path) -> None:
    context = multiprocessing.get_context("spawn")
    pacer = HostPacer("acme", SLOW, folder=folder, clock=Clock())  # a clock that stands: slots are exact
    pipes, processes = [], []
    for _ in range(4):
        ours, theirs = context.Pipe()
        processes.append(context.Process(target=book_in_a_process, args=(pacer, 25, theirs)))
        processes[-1].start()
        pipes.append(ours)
    booked = sorted(wait for pipe in pipes for wait in pipe.recv())
    for process in processes:
        process.join()
    assert booked == [0.0] * 8 + [10.0 * number for number in range(1, 93)]
