"""A run's file of JSON lines: the environment first, then one record a measurement, flushed to the disk as it goes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec

from roofprobe.errors import BadInput
from roofprobe.json_lines import append
from roofprobe.load_record import Contention, MatmulRate, SentinelRun
from roofprobe.measurement import CollectiveMeasurement, Ended, Environment, Measurement, Skipped

AnyRecord = Environment | Measurement | CollectiveMeasurement | SentinelRun | MatmulRate | Contention | Skipped | Ended

_decoder = msgspec.json.Decoder(AnyRecord)


class RunWriter:
    """Appends records to a file, each on the disk before the next is measured.

    Raises BadInput where the file can't be made and CannotMeasure where a record can't be written (a full disk);
    what was written before stays readable.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._made = [folder for folder in (path.parent, *path.parent.parents) if not folder.exists()]
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = open(path, "ab")  # noqa: SIM115 - closed by close()
        except OSError as error:
            raise BadInput(f"can't write {path}: {error.strerror}; choose another folder with --out") from None

    def write(self, record: AnyRecord) -> None:
        append(self._file, self.path, record)

    def close(self) -> None:
        self._file.close()

    def discard(self) -> None:
        """Closes a file to which nothing was written and leaves no trace of it."""
        self._file.close()
        if self.path.stat().st_size == 0:
            self.path.unlink()
            for folder in self._made:
                folder.rmdir()


class Run(msgspec.Struct, frozen=True, kw_only=True):
    """A run as read back."""

    environment: Environment
    measurements: tuple[Measurement, ...]
    collectives: tuple[CollectiveMeasurement, ...]
    skipped: tuple[Skipped, ...]
    sentinels: tuple[SentinelRun, ...] = ()
    matmuls: tuple[MatmulRate, ...] = ()
    contentions: tuple[Contention, ...] = ()
    ended: Ended | None
    """None for a run that crashed or was killed."""


def read_run(path: Path) -> Run:
    """Reads measurements.jsonl (or the folder that holds it). A torn last line, as a crash leaves it, is passed over.

    Raises BadInput naming the file and line for anything else that is not a record.
    """
    if path.is_dir():
        path = path / "measurements.jsonl"
    records = list(_records(path))
    if not records or not isinstance(records[0], Environment):
        raise BadInput(f"{path}: line 1: expected the environment record; is this a roofprobe measurements file?")
    if any(isinstance(record, Environment) for record in records[1:]):
        raise BadInput(f"{path}: holds more than one run; expected one environment record, as its first line")
    return Run(
        environment=records[0],
        measurements=tuple(r for r in records if isinstance(r, Measurement)),
        collectives=tuple(r for r in records if isinstance(r, CollectiveMeasurement)),
        skipped=tuple(r for r in records if isinstance(r, Skipped)),
        sentinels=tuple(r for r in records if isinstance(r, SentinelRun)),
        matmuls=tuple(r for r in records if isinstance(r, MatmulRate)),
        contentions=tuple(r for r in records if isinstance(r, Contention)),
        ended=next((r for r in records if isinstance(r, Ended)), None),
    )


def _records(path: Path) -> Iterator[AnyRecord]:
    try:
        with open(path, "rb") as file:
            for number, line in enumerate(file, start=1):
                try:
                    yield _decoder.decode(line)
                except msgspec.MsgspecError as error:
                    if not line.endswith(b"\n"):
                        return
                    raise BadInput(f"{path}: line {number}: {error}") from None
    except OSError as error:
        raise BadInput(f"can't read {path}: {error.strerror}") from None
