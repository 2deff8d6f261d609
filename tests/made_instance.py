"""A data folder as ingest leaves it, journal, store and checkpoint, without a broker."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from made_frames import pipeline_of

from devices.times import NS
from ingest.checkpoint import WorkerBlob, freeze, thaw, worker_of
from ingest.pipeline import Pipeline
from ingest.rerunning import catch_up
from quayflow.hashing import StoreHash, hash_of
from store.data_folder import DataFolder
from store.interface import Commit
from store.journal import Frame, JournalConfig, JournalWriter, encode, read
from store.open import open_records, open_sink, open_windows

LONG = 7 * 86_400 * NS


class Instance:
    """One ingest worker on a data folder."""

    def __init__(
        self, folder: Path, worker: str = "ingest-1", urls: tuple[str, str] | None = None, **config: Any
    ) -> None:
        """``urls``: of windows and records, by default the folder's own store; ``config``: of the pipeline."""
        self.config = config
        self.folder = folder
        self.worker = worker
        DataFolder.open(folder).close()
        own = f"sqlite:///{folder}/quayflow.db"
        self.urls = urls or (own, own)
        self._writer = JournalWriter(JournalConfig(folder / "journal", segment_bytes=100_000))
        self.start()

    def start(self) -> None:
        """Begin a life at the checkpoint, as after an end of any kind."""
        self._sink = open_sink(*self.urls, self.folder)
        checkpoint = self._sink.load(self.worker)
        self.blob: WorkerBlob = worker_of(checkpoint.state if checkpoint else {})
        self.blob.life += 1
        self.pipeline: Pipeline = pipeline_of(self.worker, self.blob.life, **self.config)
        if checkpoint:
            thaw(self.pipeline, checkpoint.state)
        frames = list(read(self.folder / "journal", checkpoint.offset if checkpoint else 0))
        self.pipeline.process(frames)

    def take(self, frames: Iterable[Frame]) -> None:
        """Journal and process frames, each at its time of receipt."""
        for frame in frames:
            encoded = encode(self._writer.begin(), frame.recv_ts, 1, [(frame.topic, frame.payload, frame.flags)])
            self._writer.append(encoded.blob, 1)
            self.pipeline.process(encoded.frames)
            self.pipeline.tick(frame.recv_ts)

    def commit(self) -> None:
        """Commit what changed."""
        pipeline = self.pipeline
        self.blob.commits += 1
        touched = pipeline.touched()
        rows = pipeline.take_rows(self.blob.commits)
        frozen = freeze(pipeline, self.blob, touched)
        self._sink.commit(
            Commit(
                worker=self.worker,
                offset=self._writer.end,
                rows=rows,
                devices=list(pipeline.records_of([device for device in touched if device.index])),
                events=pipeline.take_events(),
                quarantine=pipeline.take_quarantine(),
                ledger=pipeline.ledger_rows(touched),
                state=frozen.state,
                status={"worker": self.worker},
                retracted=pipeline.detection.take_retracted(),
                history=frozen.history,
            )
        )

    def settle(self, now: int) -> None:
        """Let everything come to rest, and end in order."""
        self.pipeline.tick(now)
        histories = {
            device.uid: self._sink.history(self.worker, device.uid) for device in self.pipeline.directory.devices
        }
        catch_up(self.pipeline, list(read(self.folder / "journal")), histories)
        self.commit()
        self.stop()

    def stop(self) -> None:
        """End without a further commit."""
        assert self._sink.drain(30)
        self._sink.close()

    def hash(self) -> StoreHash:
        """The hash of the store."""
        windows, records = open_windows(self.urls[0], read_only=True), open_records(self.urls[1])
        try:
            return hash_of(windows, records)
        finally:
            windows.close()
            records.close()
