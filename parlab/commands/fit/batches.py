"""Which utterances a training can use together: frames for their targets, augmentation, batches dealt to the ranks."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from torch.utils.data import Sampler

from parlab.data.examples import Item
from parlab.data.s2t_targets import plain
from parlab.data.sampling import Augmentation, TrainingSampler
from parlab.data.utterance import Utterance
from parlab.errors import UserError
from parlab.model.hybrid import HybridModel
from parlab.model.invariance import encoder_frames, subsamples


def frame_counter(model: HybridModel) -> Callable[[float], int] | None:
    """Encoder frames as a function of seconds; None where CTC is not trained or the formula is not known."""
    weight = float(model.config.get("model_conf", {}).get("ctc_weight", 0.5)) if model.decoder is not None else 1.0
    known = getattr(model.frontend, "batch_invariant", False) and model.preencoder is None and model.postencoder is None
    if model.ctc is None or weight == 0.0 or not known or not subsamples(model.encoder):
        return None
    front: Any = model.frontend
    rate, window = model.sample_rate, model.window_seconds

    def frames(seconds: float) -> int:
        features = front.frames(round((window or seconds) * rate))
        return max(0, int(encoder_frames(model.encoder, features)))

    return frames


def check_s2t_augmentation(augmentation: Augmentation, utterances: Sequence[Utterance]) -> None:
    """Refuse augmentation that the texts of an S2T model do not follow.

    Raises:
        UserError: utterances would be joined, or time symbols would be moved.
    """
    if augmentation.join_probability > 0:
        raise UserError(
            "data.augmentation joins utterances, which an S2T model cannot use; set its join_probability to 0"
        )
    if any(speed != 1.0 for speed in augmentation.speeds) and any(
        plain(u.text or "") != (u.text or "").strip() for u in utterances
    ):
        raise UserError(
            "data.augmentation changes the speed, and the texts hold time symbols, which would be wrong then; set its speeds "
            "to [1.0], or take the times out"
        )


class EpochSampler(Sampler[list[Item]]):
    """Deals the batches of a training sampler to the ranks, in epochs of one length, from the middle after a resume.

    Lightning takes the number of batches from the first epoch; later ones are cut to it, or begin again. Dealing whole
    batches gives every rank as many, without the copies of utterances that Lhotse makes to fill up uneven shares.
    After a resume, the batches that the trainer has done are left out.
    """

    def __init__(self, inner: TrainingSampler, trainer: Any = None):
        self.inner, self.trainer = inner, trainer
        self.rank: int = trainer.global_rank if trainer else 0
        self.world_size: int = trainer.world_size if trainer else 1
        inner.set_epoch(0)
        self.size = len(list(inner)) // self.world_size
        if self.size == 0:
            raise UserError("the training data makes no batch, expected at least one for each device; use more data")

    def set_epoch(self, epoch: int) -> None:
        """Lightning calls this before each epoch."""
        self.inner.set_epoch(epoch)

    def __len__(self) -> int:
        return self.size

    def __iter__(self) -> Iterator[list[Item]]:
        # A generator: this runs at the first batch, when Lightning has set the epoch and restored its progress.
        done = self.trainer.fit_loop.epoch_loop.batch_progress.current.ready if self.trainer else 0
        batches = list(self.inner)
        for i in range(done, self.size):
            yield batches[(i * self.world_size + self.rank) % len(batches)]
