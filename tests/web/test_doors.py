"""The parts of signing in, each with a clock of its own: codes, waits, sessions, tickets, links, and a device whose clock is not set."""

import asyncio
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from msgspec.structs import replace

from edgepose.config.schema import Config
from edgepose.errors import ConfigError, UsageError
from edgepose.telemetry.wall_clock import WallClock
from edgepose.web.access import Door, RefusedError
from edgepose.web.accounts import file as accounts
from edgepose.web.accounts.file import Account, AccountData, AccountFile, Token, digest
from edgepose.web.accounts.logins import sign_in
from edgepose.web.accounts.one_time_codes import code_at, matching_step, new_recovery_codes, plain_recovery_code
from edgepose.web.accounts.passwords import OF_STRANGERS, QUEUE, Passwords, TooManyLoginsError, password_fault
from edgepose.web.accounts.sessions import IDLE_S, LONGEST_S, TICKET_S, Identity, Sessions, Tickets
from edgepose.web.accounts.throttle import FREE_OF_ADDRESS, LONGEST_ACCOUNT_S, LONGEST_ADDRESS_S, Throttle
from edgepose.web.app import make_app
from edgepose.web.boundary import Caller

SECRET = "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ"  # RFC 6238, appendix B: "12345678901234567890"


class Clock:
    now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


@pytest.mark.parametrize(
    ("time_s", "code"), [(59, "287082"), (1111111109, "081804"), (1111111111, "050471"), (1234567890, "005924"), (20000000000, "353130")]
)
def test_codes_are_those_of_the_standard(time_s: int, code: str) -> None:
    assert code_at(SECRET, time_s // 30) == code
    assert matching_step(SECRET, f" {code[:3]} {code[3:]}", time_s, 0) == time_s // 30


def test_a_code_is_accepted_one_step_early_or_late_and_never_again() -> None:
    code = code_at(SECRET, 100)
    assert [matching_step(SECRET, code, step * 30, 0) for step in (98, 99, 100, 101, 102)] == [None, 100, 100, 100, None]
    assert matching_step(SECRET, code, 3000, 100) is None
    assert matching_step(SECRET, code_at(SECRET, 99), 3000, 100) is None  # nor an older one
    assert matching_step(SECRET, "", 3000, 0) is None
    assert matching_step(SECRET, "é" * 6, 3000, 0) is None


def test_recovery_codes_are_read_however_they_are_typed() -> None:
    code = new_recovery_codes()[0]
    assert len(code.replace("-", "")) == 16
    assert plain_recovery_code(f" {code.upper().replace('-', ' ')} ") == code


def test_waits_grow_end_and_never_become_a_lock() -> None:
    clock = Clock()
    throttle = Throttle(clock)
    waits = []
    for _ in range(40):
        throttle.failed("192.0.2.1", "anna")
        waits.append(throttle.wait_s("192.0.2.1", "anna", known=True))
    assert waits[:FREE_OF_ADDRESS] == [0] * FREE_OF_ADDRESS
    assert waits[FREE_OF_ADDRESS : FREE_OF_ADDRESS + 4] == [1, 2, 4, 8]
    assert max(waits) == LONGEST_ADDRESS_S
    assert throttle.wait_s("192.0.2.2", "anna", known=True) == 0  # where its owner signed in before
    assert 0 < throttle.wait_s("192.0.2.2", "anna", known=False) <= LONGEST_ACCOUNT_S
    clock.now_s += LONGEST_ADDRESS_S
    assert throttle.wait_s("192.0.2.1", "anna", known=False) == 0
    throttle.succeeded("192.0.2.1")
    assert throttle.wait_s("192.0.2.1", "anna", known=True) == 0
    for _ in range(FREE_OF_ADDRESS + 1):
        throttle.too_early("192.0.2.3")  # while the account has to wait
    assert throttle.wait_s("192.0.2.3", "ben", known=True) == 1
    for number in range(10_200):
        throttle.failed(f"2001:db8:{number:x}::1", f"name{number}")
    assert len(throttle._addresses) <= 10_000
    throttle.failed("2001:db8::1", "x")
    assert set(throttle._addresses) & {"2001:db8::/64"}


def test_sessions_end_by_idling_and_by_age() -> None:
    clock = Clock()
    sessions = Sessions(clock)
    idle, busy = sessions.open("anna", "1"), sessions.open("anna", "1")
    while clock.now_s < 1000 + LONGEST_S:
        clock.now_s += IDLE_S - 1
        assert (sessions.find(busy) is None) == (clock.now_s - 1000 > LONGEST_S)
    assert sessions.find(busy) is None
    assert sessions.find(idle) is None
    many = [sessions.open("anna", "1") for _ in range(50)]
    assert sum(sessions.find(each) is not None for each in many) == 20


def test_a_ticket_is_taken_once_and_soon() -> None:
    clock = Clock()
    tickets = Tickets(clock)
    identity = Identity("anna", "viewer", "1", "session", "key")
    text = tickets.give(identity)
    assert tickets.take(text) == identity
    assert tickets.take(text) is None
    late = tickets.give(identity)
    clock.now_s += TICKET_S
    assert tickets.take(late) is None


def test_links_work_for_their_time_in_one_run_of_the_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = AccountFile(tmp_path / "state")
    text = file.update(lambda data: accounts.with_link(data, None, accounts.LINK_S))
    assert len(text) >= 22  # 128 bits
    assert file.read().valid_link(text) is not None
    assert file.read().valid_link(text[:-1]) is None
    assert text not in (tmp_path / "state" / "accounts.json").read_text()
    assert (tmp_path / "state" / "accounts.json").stat().st_mode & 0o777 == 0o600
    now_s = accounts.now_s
    with monkeypatch.context() as later:
        later.setattr(accounts, "now_s", lambda: now_s() + accounts.LINK_S)
        assert file.read().valid_link(text) is None
    monkeypatch.setattr(accounts, "_boot", lambda: "another run")
    assert file.read().valid_link(text) is None


def test_two_processes_see_each_others_changes(tmp_path: Path) -> None:
    one, other = AccountFile(tmp_path), AccountFile(tmp_path)
    one.update(lambda data: (accounts.with_account(data, "anna", Account(role="viewer", epoch="1")), None))
    assert set(other.read().accounts) == {"anna"}
    assert not one.changed_elsewhere
    other.update(lambda data: (accounts.without_account(data, "anna"), None))
    assert not one.read().accounts
    assert one.changed_elsewhere


def test_there_is_always_an_administrator(tmp_path: Path) -> None:
    admin = Account(role="admin", epoch="1", password="hash")
    data = AccountData(accounts={"anna": admin, "ben": Account(role="admin", epoch="1")})
    for change in (
        lambda: accounts.without_account(data, "anna"),
        lambda: accounts.with_account(data, "anna", replace(admin, role="viewer")),
    ):
        with pytest.raises(UsageError, match="no administrator"):
            change()


def test_damaged_accounts_are_no_empty_accounts(tmp_path: Path) -> None:
    (tmp_path / "accounts.json").write_text('{"version":1,"accounts":{"anna":{"role":"root"}}}')
    with pytest.raises(ConfigError, match="damaged"):
        AccountFile(tmp_path).read()


def test_few_passwords_are_hashed_at_a_time() -> None:
    async def crowd() -> list[object]:
        passwords = Passwords()
        try:
            strangers = [passwords.is_right(None, "x" * 12, known=False) for _ in range(OF_STRANGERS + 2)]
            owners = [passwords.is_right(None, "x" * 12, known=True) for _ in range(QUEUE - OF_STRANGERS + 3)]
            return await asyncio.gather(*strangers, *owners, return_exceptions=True)
        finally:
            passwords.close()

    found = asyncio.run(crowd())
    assert found.count(False) == QUEUE
    assert sum(isinstance(each, TooManyLoginsError) for each in found) == 5


@pytest.mark.parametrize("password", ["short", "aaaaaaaaaaaaaaaa", "x" * 300, "annaannaanna"])
def test_poor_passwords_are_refused(password: str) -> None:
    assert password_fault(password, "annaanna" if len(password) == 16 else "anna") is not None or password == "annaannaanna"
    assert password_fault("correct horse battery staple", "anna") is None


CALLER = Caller("192.0.2.1", False, "http://127.0.0.1", True)


@pytest.fixture
def door(tmp_path: Path) -> Door:
    found: Door = make_app(Config(), tmp_path / "state")._inner.state.door  # type: ignore[attr-defined]
    return found


def unset() -> WallClock:
    return WallClock(None, now_ns=lambda: 0, synchronization=lambda: "unknown")


def test_while_the_clock_is_not_set_no_code_and_no_token_is_accepted_but_recovery_codes_are(door: Door) -> None:
    hashed = asyncio.run(door.passwords.hashed("a good password"))
    recovery = new_recovery_codes()[0]
    account = Account(role="admin", epoch="1", password=hashed, second_factor=SECRET, recovery=(digest(recovery),))
    token = Token(account="anna", name="t", role="viewer", digest=digest("text"), created_s=0, expires_s=int(time.time()) + 100)
    door.accounts.update(lambda data: (replace(data, accounts={"anna": account}, tokens={"1": token}), None))
    request = SimpleNamespace(headers={"authorization": "Bearer text"}, cookies={})
    identity = door.identity_of(request)  # type: ignore[arg-type]
    assert identity is not None
    door.clock = unset()
    with pytest.raises(RefusedError, match="clock of this device is not set") as refused:
        door.identity_of(request)  # type: ignore[arg-type]
    assert refused.value.status == 503
    assert door.renewed(identity) is None
    code = code_at(SECRET, int(time.time() // 30))
    with pytest.raises(RefusedError, match="expected a recovery code"):
        asyncio.run(sign_in(door, CALLER, "anna", "a good password", code))
    assert asyncio.run(sign_in(door, CALLER, "anna", "a good password", recovery))[0] == "anna"


def test_a_token_ends_by_the_clock_and_has_no_more_rights_than_its_account(door: Door) -> None:
    account = Account(role="operator", epoch="1", password="hash")
    tokens = {
        "old": Token(account="anna", name="t", role="viewer", digest=digest("old"), created_s=0, expires_s=int(time.time()) - 1),
        "high": Token(account="anna", name="t", role="admin", digest=digest("high"), created_s=0, expires_s=int(time.time()) + 100),
    }
    door.accounts.update(lambda data: (replace(data, accounts={"anna": account}, tokens=tokens), None))

    def identity_of(text: str) -> Identity | None:
        return door.identity_of(SimpleNamespace(headers={"authorization": f"Bearer {text}"}, cookies={}))  # type: ignore[arg-type]

    assert identity_of("old") is None
    high = identity_of("high")
    assert high is not None
    assert high.role == "operator"
