"""The hybrid CTC/attention model: one encoder with a CTC head and an attention decoder."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from threading import RLock
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from parlab.errors import UserError
from parlab.model.decoder_spec import DecoderSpec
from parlab.model.encoded import NO_CTC
from parlab.model.families import espnet_decoder
from parlab.model.families.espnet_graphs import EncoderGraphs
from parlab.model.invariance import encoder_frames, groups_of_equal_length, make_batch_invariant, subsamples
from parlab.model.losses import Losses, joint_loss
from parlab.model.packed import Fingerprint
from parlab.model.rows import RowDecoder
from parlab.text.s2t import S2TSymbols
from parlab.text.targets import Targets
from parlab.text.words import word_edges
from parlab.types import SpecialTokens


class HybridModel(nn.Module):
    """ESPnet's modules under ESPnet's names, so that state dicts match key for key.

    Args:
        config: ESPnet's training configuration (``config.yaml``) as a plain dict, ``token_list`` included.
        special: ids with a meaning of their own.
        parts: ``frontend``, ``specaug``, ``normalize``, ``preencoder``, ``encoder``, ``postencoder``, ``decoder``, ``ctc``; or None.

    Attributes:
        prompt: default prompt of the decoder, ``(sos,)`` for ASR models.
        kind: ``"asr"``, ``"s2t"`` (OWSM), ``"s2t_ctc"`` (OWSM-CTC) or a foreign family's name in small letters.
        s2t: symbols and window of an S2T model; None for ASR models.
        one_thread: held while ESPnet's encoder runs: its modules keep attention, position tables and mask of the batch at hand.
    """

    prompt_frames: ClassVar[int] = 0  # encoder frames of the prompt, before those of the speech
    family = "ESPnet"  # the toolkit whose model it is

    def __init__(
        self,
        config: Mapping[str, Any],
        special: SpecialTokens,
        parts: Mapping[str, nn.Module | None],
        kind: str = "asr",
        s2t: S2TSymbols | None = None,
    ):
        super().__init__()
        self.config = dict(config)
        self.token_list: list[str] = list(config["token_list"])
        self.special = special
        self.kind = kind
        self.s2t = s2t
        self.prompt = s2t.prompt() if s2t is not None else (special.sos,)
        self.vocab_size = len(self.token_list)
        self.frontend = parts.get("frontend")
        self.specaug = parts.get("specaug")
        self.normalize = parts.get("normalize")
        self.preencoder = parts.get("preencoder")
        encoder = parts["encoder"]
        assert encoder is not None, "every model has an encoder"
        self.encoder: Any = encoder
        self.postencoder = parts.get("postencoder")
        self.decoder = parts.get("decoder")
        self.ctc: Any = parts.get("ctc")
        self.lora_scale: float | None = None  # where adapters were put in
        self._rows: tuple[Fingerprint, RowDecoder] | None = None
        self.one_thread = RLock()
        self.compiled: Callable[[Tensor, Tensor], Any] | None = None
        self._word_edges: Tensor | None = None
        # Front ends of ours reflect each utterance alone; a foreign one is only trusted for equal lengths.
        self._batch_invariant = make_batch_invariant(encoder) and getattr(self.frontend, "batch_invariant", False)

    @property
    def sample_rate(self) -> int:
        """Samples per second that ``encode`` expects."""
        return int(getattr(self.frontend, "sample_rate", 16000))

    @cached_property
    def frame_seconds(self) -> float:
        """Seconds from one encoder frame to the next."""
        hop = int(getattr(self.frontend, "hop_length", 160))
        if not subsamples(self.encoder):
            return hop / self.sample_rate
        span = 6 * 420  # long enough that the edges of the convolutions do not matter
        near, far = encoder_frames(self.encoder, 1000), encoder_frames(self.encoder, 1000 + span)
        return hop * (span / (far - near)) / self.sample_rate

    @cached_property
    def min_samples(self) -> int:
        """Samples below which an utterance is too short for the front end and the subsampling."""
        hop, n_fft = getattr(self.frontend, "hop_length", 160), getattr(self.frontend, "n_fft", 512)
        frames = 1
        while subsamples(self.encoder) and encoder_frames(self.encoder, frames) < 1:
            frames += 1
        return max(n_fft // 2 + 1, (frames + 1) * hop)  # ESPnet refuses fewer; two frames are no utterance

    @property
    def rows(self) -> RowDecoder:
        """The attention decoder as rows with shared caches, made anew when the weights have changed.

        Raises:
            UserError: the model has no attention decoder that can be stepped in rows.
        """
        if self.decoder is None:
            raise UserError(
                "this model has no attention decoder (it is CTC only), expected a hybrid CTC/attention model; "
                "decode it with greedy or ctc_beam"
            )
        parameters = list(self.decoder.parameters())
        made = self._rows  # another thread may replace it meanwhile
        if made is None or not made[0].matches(parameters):
            made = self._rows = (Fingerprint(parameters), RowDecoder(self.decoder_spec()))
        return made[1]

    def backward_decoder(self) -> tuple[nn.Module, float] | None:
        """A decoder that reads a text from its end, and its share of the attention loss, where a family has one."""
        return None

    def decoder_spec(self) -> DecoderSpec:
        """What ``rows`` reads: the decoder's layers, positions and output.

        Raises:
            UserError: the decoder is no transformer decoder with embedded tokens.
        """
        assert self.decoder is not None
        return espnet_decoder.decoder_spec(self.decoder)

    def word_edges(self, device: torch.device) -> Tensor:
        """Which ids begin a word, and after which ids a word begins: (2, V), computed once (``parlab/text/words.py``)."""
        if self._word_edges is None or self._word_edges.device != device:
            kind = str(self.config.get("token_type") or "bpe")
            self._word_edges = torch.tensor(word_edges(self.token_list, kind), device=device)
        return self._word_edges

    @property
    def window_seconds(self) -> float | None:
        """Seconds that speech is padded or cut to, as S2T models were trained; None: it stays as it is."""
        return self.s2t.window_seconds if self.s2t is not None else None

    @property
    def longest_seconds(self) -> float | None:
        """Seconds of speech that can be decoded in one piece: the window, or what the encoder's positions reach; None: any."""
        return self.window_seconds or getattr(self.encoder, "longest_seconds", None)

    def __getstate__(self) -> dict[str, Any]:
        """Copies and pickles make their own rows and their own lock; they are not compiled."""
        return {**self.__dict__, "_rows": None, "one_thread": None, "compiled": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__({**state, "one_thread": RLock()})

    def to_device(self, device: torch.device, dtype: torch.dtype | None = None) -> HybridModel:
        """Move to a device; ``dtype`` is for all but the front end, whose logarithms need float32."""
        self.to(device)
        if dtype is not None:
            for name, part in self.named_children():
                if name not in {"frontend", "specaug", "normalize"}:
                    part.to(dtype)
        return self

    def encode(
        self, speech: Tensor, lengths: Tensor, prompts: Sequence[tuple[int, ...]] | None = None
    ) -> tuple[Tensor, Tensor]:
        """``speech`` (B, samples), ``lengths`` (B,) to encoder output (B, T, D) and frame counts (B,).

        The output of an utterance does not depend on its neighbours in the batch. ``prompts`` matter only to models
        whose encoder reads them (``S2TCTCModel``).
        """
        speech, lengths = self.to_window(speech, lengths)
        if self.training or self._batch_invariant or self.window_seconds is not None:  # windows are equally long
            states, frames, _ = self.encode_features(*self.features(speech, lengths))
            return states, frames
        groups = groups_of_equal_length(lengths)
        outputs = [self.encode_features(*self.features(speech[g, : lengths[g[0]]], lengths[g])) for g in groups]
        size = max(states.size(1) for states, _, _ in outputs)
        states, frames = outputs[0][0].new_zeros(len(lengths), size, outputs[0][0].size(2)), lengths.clone()
        for group, (part, count, _) in zip(groups, outputs, strict=True):
            states[group, : part.size(1)] = part
            frames[group] = count
        return states, frames

    def to_window(self, speech: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Pad with silence or cut to the model's window, where it has one (ESPnet's S2TPreprocessor)."""
        if self.window_seconds is None:
            return speech, lengths
        size = round(self.window_seconds * self.sample_rate)
        inside = torch.arange(speech.size(1), device=speech.device) < lengths.unsqueeze(1)
        speech = (speech * inside)[:, :size]
        return torch.nn.functional.pad(speech, (0, size - speech.size(1))), torch.full_like(lengths, size)

    def features(self, speech: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Normalised features (B, frames, n_mels) and frame counts (B,); SpecAugment while training."""
        if self.frontend is None:
            raise UserError("the model has no front end (it was trained on stored features), expected one on waveforms")
        x, frames = self.frontend(*self.to_window(speech, lengths))
        if self.specaug is not None and self.training:
            x, frames = self.specaug(x, frames)
        if self.normalize is not None:
            x, frames = self.normalize(x, frames)
        return x, frames

    def encode_features(self, x: Tensor, frames: Tensor) -> tuple[Tensor, Tensor, list[Tensor]]:
        """Encoder output (B, T, D), frame counts (B,) and the outputs of layers with intermediate CTC."""
        if not torch.is_autocast_enabled(x.device.type):
            x = x.to(next(self.encoder.parameters()).dtype)
        if self.preencoder is not None:
            with self.one_thread:
                x, frames = self.preencoder(x, frames)
        run = self._run_encoder if self.training or self.compiled is None else self.compiled
        with self.one_thread:
            output = run(x, frames)
        states, frames = output[0], output[1]
        intermediate: list[Tensor] = []
        if isinstance(states, tuple):
            states, intermediate = states[0], [state for _, state in states[1]]
        if self.postencoder is not None:
            with self.one_thread:
                states, frames = self.postencoder(states, frames)
        return states, frames, intermediate

    def _run_encoder(self, x: Tensor, frames: Tensor) -> Any:
        conditioned = getattr(self.encoder, "interctc_use_conditioning", False)
        return self.encoder(x, frames, ctc=self.ctc) if conditioned else self.encoder(x, frames)

    def compile_encoder(self, backend: str | Callable[..., Any] | None = "inductor", graphs: bool = False) -> None:
        """Let ``torch.compile`` (None: nobody) fuse the encoder's kernels in evaluation mode; ``graphs``: CUDA graphs of batches."""
        run = torch.compile(self._run_encoder, backend=backend, dynamic=True) if backend else self._run_encoder
        self.compiled = EncoderGraphs(self.encoder, run) if graphs and self._batch_invariant else run

    def ctc_log_probs(self, encoder_out: Tensor) -> Tensor:
        """Log posteriors of the CTC head: (B, T, D) to (B, T, V), float32.

        Raises:
            UserError: the model has no CTC head.
        """
        if self.ctc is None:
            raise UserError(NO_CTC)
        return torch.log_softmax(self.ctc.ctc_lo(encoder_out).float(), dim=-1)

    def loss(self, speech: Tensor, lengths: Tensor, targets: Targets) -> Losses:
        """Joint CTC/attention loss of a batch: ``speech`` (B, samples), ``lengths`` (B,) and its targets."""
        states, frames, intermediate = self.encode_features(*self.features(speech, lengths))
        return joint_loss(self, states, frames, intermediate, targets)
