"""Lessons in the order in which a run hears them, extracted by processes of their own while it trains."""

import multiprocessing
import os
import sys
import time
from collections.abc import Iterable
from functools import lru_cache
from multiprocessing.process import BaseProcess
from multiprocessing.sharedctypes import Synchronized
from pathlib import Path

import torch
from torch import Tensor

from hear_byols._util.memory import keep_freed_memory
from hear_byols.errors import HearByolsError, InputError, TrainingError
from hear_byols.training.distributed import seeded
from hear_byols.training.lessons import SHARD, LessonFolder, LessonPlan, Teachers
from hear_byols.training.pool import AudioPool

KEPT = 300 * SHARD  # lessons that stay in the memory of a device whose teachers compute in the step
GROUP = 4  # shards that are shuffled together
_MIXED = 8  # earlier batches that one of replays is mixed from
_POLL = 0.5  # seconds between two looks for a shard


class LiveLessons:
    """Lessons whose teachers compute in the step itself.

    Between two batches of new crops come batches mixed from earlier ones, which the device keeps in its memory: the
    newest ``KEPT``, with the presets' teachers 10 GB. Each batch is a function of its step alone. ``replays`` are the
    batches of earlier crops between two new ones.
    """

    def __init__(self, plan: LessonPlan, pool: AudioPool, device: torch.device | str, replays: int = 0) -> None:
        self.plan, self.pool, self.replays = plan, pool, replays
        self.n_lessons = max(1, int(pool.offsets[-1]) // plan.n_samples)  # crops that fit end to end into the pool
        self.digest = f"{plan.digest} {pool.digest}"  # tells whether two runs learn from the same
        audio = torch.from_numpy(pool.audio).to(device)
        self._heard = lru_cache(maxsize=1)(lambda shard: torch.cat(list(plan.waveforms(pool, shard, audio))))
        self._teachers = Teachers(plan, pool, device)
        self._kept: dict[int, tuple[Tensor, Tensor]] = {}

    def batch(self, step: int, size: int, rows: slice) -> tuple[Tensor, Tensor]:
        """As :meth:`Lessons.batch`."""
        newest, place = divmod(step, 1 + self.replays)
        if not place:
            return self._batch(newest, size, rows)
        generator = seeded(torch.Generator(), self.plan.seed, step, "replay")
        oldest = max(0, newest + 1 - KEPT // size)
        numbers = torch.randint(oldest, newest + 1, (_MIXED,), generator=generator).tolist()
        chosen = torch.randperm(rows.stop - rows.start, generator=generator).tensor_split(_MIXED)
        mixed = []
        for number, part in zip(numbers, chosen, strict=True):
            mixed.append([tensor[part.to(tensor.device)] for tensor in self._batch(number, size, rows)])
        waveforms, features = map(torch.cat, zip(*mixed, strict=True))
        return waveforms, features

    def first(self, n_shards: int) -> tuple[Tensor, Tensor]:
        """The first shards, for statistics."""
        waveforms = torch.cat([self._heard(shard) for shard in range(n_shards)])
        return waveforms, torch.cat([self._teachers(batch) for batch in waveforms.split(SHARD)])

    def _batch(self, number: int, size: int, rows: slice) -> tuple[Tensor, Tensor]:
        """A batch of new crops by its number, made unless it is kept."""
        if number in self._kept:
            return self._kept[number]
        place, stop = number * size + rows.start, number * size + rows.stop
        parts = []
        while place < stop:
            shard, row = divmod(place, SHARD)
            parts.append(self._heard(shard)[row : row + stop - place])
            place += len(parts[-1])
        waveforms = torch.cat(parts)
        lessons = waveforms, self._teachers(waveforms)
        if self.replays:
            self._kept[number] = lessons
            if len(self._kept) > max(1, KEPT // size):
                del self._kept[min(self._kept)]
        return lessons


class Lessons:
    """Lessons in the order in which a run hears them, made by processes of their own while it trains.

    Shards come in groups; each new group is followed by earlier ones, and when all have been heard they come again in
    random order. The order depends on the seed alone, so a run waits where lessons are not there yet.

    Args:
        folder: that is to hold ``n_shards``.
        replays: earlier groups between two new ones: the more, the slower the extraction may be.
        workers: processes that extract, on ``device``; 0: the shards must be there.
    """

    def __init__(
        self, folder: LessonFolder, n_shards: int, replays: int = 3, workers: int = 1, device: str = "cpu"
    ) -> None:
        self.folder, self.replays, self.digest = folder, replays, folder.digest
        self.n_groups = max(1, n_shards // GROUP)
        self.group = min(GROUP, n_shards)
        self.n_lessons = self.n_groups * self.group * SHARD
        self._processes: list[BaseProcess] = []
        self._visit = -1
        self._buffer = torch.empty(0), torch.empty(0)
        missing = [i for i in range(self.n_groups * self.group) if not folder.path(i).exists()]
        if missing and workers:
            if folder.pool.folder is None:
                raise InputError("processes that extract lessons need a pool on disk; use load_pool")
            context = multiprocessing.get_context("spawn")
            # Each worker takes the next shard, so that a slow one holds nobody up. Kept, since a worker that starts
            # slowly would look in vain for the lock of a number that nobody holds any more.
            self._n_taken = context.Value("q", 0)
            for _ in range(workers):
                arguments = folder.folder, folder.plan, folder.pool.folder, missing, self._n_taken, device
                process = context.Process(target=_extract, args=arguments, daemon=True)
                process.start()
                self._processes.append(process)

    def batch(self, step: int, size: int, rows: slice) -> tuple[Tensor, Tensor]:
        """Those ``rows`` of a step's lessons, ``size`` in all and at most a group; as :meth:`LessonFolder.read`.

        What is left of a group behind its last whole batch is passed over.
        """
        visit, place = divmod(step, self.group * SHARD // size)
        if visit != self._visit:
            first = self.group * self._heard(visit)
            self._buffer = self._together(range(first, first + self.group))
            self._order = torch.randperm(self.group * SHARD, generator=self._generator(visit, "order"))
            self._visit = visit
        chosen = self._order[place * size : (place + 1) * size][rows]
        waveforms, features = self._buffer
        return waveforms[chosen], features[chosen]

    def first(self, n_shards: int) -> tuple[Tensor, Tensor]:
        """The first shards, for statistics."""
        return self._together(range(min(n_shards, self.n_groups * self.group)))

    def close(self) -> None:
        """End the extraction."""
        for process in self._processes:
            process.terminate()
            process.join()
        self._processes = []

    def _heard(self, visit: int) -> int:
        """Which group: each new one, then ``replays`` random ones up to it; at last permutations of all."""
        newest, place = divmod(visit, 1 + self.replays)
        if newest < self.n_groups:
            return int(torch.randint(newest + 1, (1,), generator=self._generator(visit, "group"))) if place else newest
        pass_, place = divmod(visit - self.n_groups * (1 + self.replays), self.n_groups)
        return int(torch.randperm(self.n_groups, generator=self._generator(pass_, "pass"))[place])

    def _generator(self, number: int, purpose: str) -> torch.Generator:
        return seeded(torch.Generator(), self.folder.plan.seed, number, purpose)

    def _together(self, shards: Iterable[int]) -> tuple[Tensor, Tensor]:
        """Of some shards, as soon as they are there."""
        read = []
        for shard in shards:
            path = self.folder.path(shard)
            while not path.exists():
                if not any(process.is_alive() for process in self._processes) and not path.exists():
                    fault = f"{path} is not there and nothing makes it: the extraction has failed"
                    raise TrainingError(f"{fault} (its own message stands above); the same command continues")
                time.sleep(_POLL)
            read.append(self.folder.read(shard))
        waveforms, features = map(torch.cat, zip(*read, strict=True))
        return waveforms, features


LessonSource = Lessons | LiveLessons


def _extract(folder: Path, plan: LessonPlan, pool: Path, shards: list[int], n_taken: Synchronized, device: str) -> None:
    """What a worker process does."""
    torch.set_num_threads(1)
    if hasattr(os, "nice"):
        os.nice(5)  # the run itself comes first
    keep_freed_memory()
    try:
        lessons = LessonFolder(folder, plan, AudioPool.open(pool))
        teachers = Teachers(plan, lessons.pool, device)
        run = os.getppid()
        while os.getppid() == run:  # else it was killed
            with n_taken.get_lock():
                taken = n_taken.value
                n_taken.value += 1
            if taken >= len(shards):
                return
            lessons.make(shards[taken], teachers)
    except HearByolsError as error:
        sys.exit(f"hear-byols: {error}")
