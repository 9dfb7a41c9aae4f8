"""The clients: threads that save, overwrite, upload and delete through the application, and threads that read.

Each writer has names of its own, whose state it also looks up on the master after each answer, and shares a few
with the others. Names change with the epoch, so that the last state of each of them is judged in the end, not only
the last state of a run. A reader checks that whatever a media server answers with 200 is whole and was sent.
"""

from __future__ import annotations

import contextlib
import http.client
import os
import random
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from urllib.parse import quote

from . import bodies
from .ledger import Effect, Ledger, Operation

__all__ = ["Crowd"]

WAIT = 30.0  # seconds until a client gives up; what it asked for may then still be done
PAUSE = 0.05  # seconds before it tries again where nobody listens
OWN_NAMES = 2  # of each writer
SHARED_NAMES = 2
RECENT = 200  # uploads that are read and deleted
LATEST = 12  # names that are read most
BOUNDARY = "chaosboundary"


class Crowd:
    """Writers against the application at ``port``, readers against the hosts at ``reads``; ``master`` is the root."""

    def __init__(
        self,
        ledger: Ledger,
        master: str,
        port: int,
        reads: Sequence[int],
        seed: int,
        *,
        writers: int = 5,
        readers: int = 2,
    ) -> None:
        self.ledger = ledger
        self.master = master
        self.port = port
        self.epoch = 0
        self.counts: Counter[str] = Counter()
        self.answers: Counter[str] = Counter()
        self.torn: list[str] = []
        self.unsent: list[str] = []
        self.lost: list[str] = []
        self.defects: list[str] = []
        self._recent: deque[str] = deque(maxlen=RECENT)
        self._over = threading.Event()
        self._lock = threading.Lock()
        self._threads = [
            *(
                self._thread(_Writer(self, number, random.Random(f"{seed} writer {number}")))
                for number in range(writers)
            ),
            *(
                self._thread(_Reader(self, reads, random.Random(f"{seed} reader {number}")))
                for number in range(readers)
            ),
        ]

    def __enter__(self) -> Crowd:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Return when every client has had its last answer."""
        self._over.set()
        for thread in self._threads:
            thread.join(WAIT + 10)
            assert not thread.is_alive(), "a client does not end"

    def name_of(self, writer: int, chance: random.Random) -> tuple[str, bool]:
        """Return a name, and whether this writer alone writes it."""
        if chance.random() < 0.4:
            return f"epoch-{self.epoch}/shared-{chance.randrange(SHARED_NAMES)}.bin", False
        return f"epoch-{self.epoch}/own-{writer}-{chance.randrange(OWN_NAMES)}.bin", True

    def some_upload(self, chance: random.Random, *, take: bool = False) -> str | None:
        """Return the name of a recent upload; ``take`` it, and nobody else gets it."""
        with self._lock:
            if not self._recent:
                return None
            name = chance.choice(self._recent)
            if take:
                self._recent.remove(name)
            return name

    def note_upload(self, name: str) -> None:
        with self._lock:
            self._recent.append(name)

    def note(self, counter: Counter[str], key: str) -> None:
        with self._lock:
            counter[key] += 1

    def check(self, name: str, content: bytes, where: str) -> None:
        """Judge what a reader got."""
        self.note(self.counts, "reads")
        value = bodies.identify(content)
        if value == bodies.TORN:
            self.torn.append(f"{len(content)} bytes of {name} read from {where}")
        elif not self.ledger.was_sent(name, value):
            self.unsent.append(f"{value} read as {name} from {where}")

    def _thread(self, client: _Writer | _Reader) -> threading.Thread:
        return threading.Thread(target=self._run, args=(client.step,), name=type(client).__name__, daemon=True)

    def _run(self, step: Callable[[], None]) -> None:
        try:
            while not self._over.is_set():
                step()
        except Exception as error:
            self.defects.append(f"{type(error).__name__}: {error}")
            raise

    def pause(self) -> None:
        self._over.wait(PAUSE)


class _Writer:
    """One client that changes things."""

    def __init__(self, crowd: Crowd, number: int, chance: random.Random) -> None:
        self._crowd = crowd
        self._number = number
        self._chance = chance

    def step(self) -> None:
        """Do one operation."""
        choice = self._chance.random()
        if choice < 0.25:
            self._upload()
        elif choice < 0.35 and (name := self._crowd.some_upload(self._chance, take=True)):
            self._delete(name, own=True)
        else:
            name, own = self._crowd.name_of(self._number, self._chance)
            if choice < 0.80:
                self._save(name, own)
            else:
                self._delete(name, own)

    def _save(self, name: str, own: bool) -> None:
        value = self._crowd.ledger.new_value()
        content = bodies.make(value, self._chance.choice(bodies.SIZES))
        self._request(self._crowd.ledger.begin(name, value), f"/save?name={quote(name)}", content)
        self._look(name, own)

    def _delete(self, name: str, own: bool) -> None:
        self._request(self._crowd.ledger.begin(name, None), f"/delete?name={quote(name)}", b"")
        self._look(name, own)

    def _upload(self) -> None:
        value = self._crowd.ledger.new_value()
        content = bodies.make(value, self._chance.choice(bodies.SIZES))
        disposition = b'Content-Disposition: form-data; name="file"; filename="upload.bin"'
        form = b"--%s\r\n%s\r\n\r\n%s\r\n--%s--\r\n" % (BOUNDARY.encode(), disposition, content, BOUNDARY.encode())
        self._request(
            self._crowd.ledger.begin(None, value), "/upload", form, f"multipart/form-data; boundary={BOUNDARY}"
        )

    def _request(
        self, operation: Operation, path: str, body: bytes, content_type: str = "application/octet-stream"
    ) -> None:
        """Send it, and note what the answer promises. Without one, a connection that ended means a dead process."""
        crowd, ledger = self._crowd, self._crowd.ledger
        crowd.note(crowd.counts, "operations")
        connection = http.client.HTTPConnection("127.0.0.1", crowd.port, timeout=WAIT)
        with contextlib.closing(connection):
            try:
                connection.connect()
            except OSError:
                ledger.end(operation, Effect.NONE)
                crowd.note(crowd.answers, "not sent")
                crowd.pause()
                return
            try:
                connection.request("POST", path, body, {"Content-Type": content_type, "Connection": "close"})
                answer = connection.getresponse()
            except (OSError, http.client.HTTPException) as error:
                ledger.end(operation, Effect.PERHAPS, open_end=isinstance(error, TimeoutError))
                crowd.note(crowd.answers, "no answer within 30 s" if isinstance(error, TimeoutError) else "no answer")
                return
        crowd.note(crowd.answers, f"{answer.status} {answer.reason}")
        self._end(operation, answer)

    def _end(self, operation: Operation, answer: http.client.HTTPResponse) -> None:
        """A page of the middleware's own has no effect named: it refused."""
        name = answer.headers.get("X-Name")
        effect = Effect(answer.headers.get("X-Effect", "done" if 200 <= answer.status < 300 else "none"))
        if operation.name is None and effect is Effect.DONE and name:
            self._crowd.ledger.end(operation, effect, name=name)
            self._crowd.note_upload(name)
        else:
            self._crowd.ledger.end(operation, effect)

    def _look(self, name: str, own: bool) -> None:
        """Look at a name of one's own on the master, where nothing but what this writer did may be."""
        if not own:
            return
        try:
            with open(os.path.join(self._crowd.master, name), "rb") as file:
                value: str | None = bodies.identify(file.read())
        except (FileNotFoundError, NotADirectoryError):
            value = None
        if value == bodies.TORN:
            self._crowd.torn.append(f"{name} on the master")
        elif value not in (legal := self._crowd.ledger.legal(name)):
            self._crowd.lost.append(f"{name} on the master holds {value} at once, may hold {legal}")


class _Reader:
    """One client that reads."""

    def __init__(self, crowd: Crowd, ports: Sequence[int], chance: random.Random) -> None:
        self._crowd = crowd
        self._ports = ports
        self._chance = chance

    def step(self) -> None:
        """Read one name from one media server; an answer that breaks off is none."""
        name = self._crowd.ledger.some_name(self._chance, LATEST)
        if name is None:
            self._crowd.pause()
            return
        port = self._chance.choice(self._ports)
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
        with contextlib.closing(connection):
            try:
                connection.request("GET", f"/{quote(name)}", headers={"Connection": "close"})
                answer = connection.getresponse()
                content = answer.read()
            except (OSError, http.client.HTTPException):
                self._crowd.pause()
                return
        if answer.status == 200:
            self._crowd.check(name, content, f"port {port}")
        time.sleep(0.002)  # seconds: the writers are to have most of the machine
