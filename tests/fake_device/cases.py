"""What runs on the make-believe device: decoders with their options, on tiny models of all kinds."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import torch

from parlab.decode import AR, PAR, CTCBeam, Decoder, Gated, Greedy, Refine, Rescore, Speculative
from parlab.decode.default import VERIFIED_WITH_A_HEAD, WITH_A_HEAD
from parlab.model.encoded import Encoded
from parlab.model.folder import read_model
from parlab.model.heads.folder import read_head
from parlab.model.hybrid import HybridModel
from parlab.recognition.prompting import PromptOptions
from parlab.recognition.recognizer import Recognizer
from parlab.text.tokenizer import Tokenizer
from tests.families.dolphin_models import write_dolphin
from tests.families.firered_models import write_firered
from tests.families.speechbrain_models import write_speechbrain
from tests.families.wenet_models import write_wenet
from tests.models import random_posteriors, s2t_model, s2t_tokenizer, tiny_model, write_lm
from tests.whisper import write_letter_head, write_whisper

SAMPLES = (16000, 12345, 9000, 8320, 15000)


@dataclass(frozen=True)
class Case:
    """A decoder on a model.

    Attributes:
        model: makes the model and its tokenizer, the same each time.
        asked: what an S2T model is asked for.
        posteriors: whether random posteriors, with masks, stand for those of the model.
        dtype: of encoder and decoder; None is float32.
        head: folder of a draft head, which is made where there is none.
    """

    name: str
    decoder: Decoder
    model: Callable[[], tuple[HybridModel, Tokenizer]]
    asked: PromptOptions = field(default_factory=PromptOptions)
    posteriors: bool = True
    dtype: torch.dtype | None = None
    head: Path | None = None

    def recognizer(self, device: torch.device) -> Recognizer:
        model, tokenizer = self.model()
        head = None
        if self.head is not None:
            if not self.head.exists():
                write_letter_head(self.head, model, LETTERS, sharpness=12.0, spaces=4.0)
            head = read_head(self.head, model, tokenizer).on(device)
        made = Recognizer(model.to_device(device, self.dtype), tokenizer, device, head=head)
        return made.asked(self.asked)

    def encode(self, recognizer: Recognizer) -> Encoded:
        """Noise, encoded."""
        generator = torch.Generator().manual_seed(0)
        batch = recognizer.encode([torch.randn(n, generator=generator) * 0.1 for n in SAMPLES])
        if not self.posteriors or batch.ctc_log_probs is None:
            return batch
        utterances, frames, vocabulary = batch.ctc_log_probs.shape
        random = random_posteriors(1, utterances, frames, vocabulary, peak=6.0)
        return replace(batch, ctc_log_probs=random.to(recognizer.device))


def asr(**changes: object) -> Callable[[], tuple[HybridModel, Tokenizer]]:
    def make() -> tuple[HybridModel, Tokenizer]:
        model = tiny_model(1, sharpness=6.0, **changes)
        return model, Tokenizer(model.token_list, "char")

    return make


def whisper(folder: Path) -> tuple[HybridModel, Tokenizer]:
    """A Whisper model, read from its folder."""
    if not folder.exists():
        write_whisper(folder, seed=5)
    return read_model(folder)


def of_family(
    write: Callable[[Path, str], object], folder: Path, name: str
) -> Callable[[], tuple[HybridModel, Tokenizer]]:
    """A model of another family, read from its folder."""

    def make() -> tuple[HybridModel, Tokenizer]:
        if not folder.exists():
            write(folder, name)
        return read_model(folder)

    return make


LETTERS = Tokenizer(["<blank>", "<space>", *"abcdefghilmnorstuv"], "char")
ARPA = """\\data\\

\\1-grams:
-0.6\t<s>\t-0.2
-0.9\t</s>
-0.8\ta\t-0.3
-1.0\tb\t-0.1

\\2-grams:
-0.3\t<s> a
-0.4\ta b
-0.5\tb </s>

\\end\\
"""
LANGUAGE_MODELS = ("transformer", "seq_rnn")
tokenizer_in = cache(s2t_tokenizer)


def prepare(folder: Path) -> None:
    """Write the files that the cases read."""
    for kind in LANGUAGE_MODELS:
        write_lm(folder / kind, kind)
    (folder / "lm.arpa").write_text(ARPA, encoding="utf-8")
    (folder / "phrases.txt").write_text("ab\nbcd\t1.5\nha ke\t2\n", encoding="utf-8")


def cases(folder: Path) -> Iterator[Case]:
    """All cases; their files are in ``folder`` (``prepare``)."""
    lms = {kind: str(folder / kind) for kind in LANGUAGE_MODELS}
    phrases = str(folder / "phrases.txt")
    plain = asr()
    decoders: dict[str, Decoder] = {
        "greedy": Greedy(),
        "ctc_beam": CTCBeam(beam_size=4),
        "ctc_beam, blanks skipped": CTCBeam(beam_size=4, blank_skip=0.9),
        "rescore": Rescore(beam_size=4),
        "rescore, lm": Rescore(beam_size=4, lm=lms["transformer"]),
        "speculative": Speculative(maxlenratio=-20),
        "gated": Gated(gate=2.0, beam_size=4, maxlenratio=-12),
        "refine": Refine(measure="margin"),
        "ar": AR(beam_size=4),
        "ar, 8 tokens": AR(beam_size=4, maxlenratio=-8),
        "ar, 24 tokens": AR(beam_size=4, maxlenratio=-24),
        "ar, attention": AR(beam_size=4, ctc_weight=0.0, maxlenratio=-12),
        "ar, n-best": AR(
            beam_size=4, nbest=3, ctc_margin=3, minlenratio=0.2, penalty=0.1, normalize_length=True, maxlenratio=-12
        ),
        "ar, lm": AR(beam_size=4, maxlenratio=-8, lm=lms["transformer"]),
        "ar, recurrent lm": AR(beam_size=4, maxlenratio=-8, lm=lms["seq_rnn"]),
        "par": PAR(beam_size=4),
        "par, words": PAR(beam_size=4, mask_unit="word"),
        "par, espnet": PAR.espnet(beam_size=4),
        "par, rescored": PAR(beam_size=4, ctc_mode="rescore", nbest=3, length_normalize=True),
        "par, some at a time": PAR(beam_size=4, max_mask_parallel=3),
        "par, 16 tokens": PAR(beam_size=4, max_seq_len=16),
        "par, 100 tokens": PAR(beam_size=4, max_seq_len=100, ctc_weight=0.0),
        "par, 100 tokens, some at a time": PAR(beam_size=4, max_seq_len=100, ctc_weight=0.0, max_mask_parallel=4),
        "greedy, entropy": Greedy("gibbs:blanks=true"),
        "par, decoder's measure": PAR(beam_size=4, measure="product", policy="budget:share=0.3"),
        "par, gaps": PAR(beam_size=4, measure="tsallis:temperature=1.5", policy="context+gaps"),
        "par, lm": PAR(beam_size=4, lm=lms["transformer"]),
        "par, n-grams": PAR(beam_size=4, lm=str(folder / "lm.arpa")),
        "ar, n-grams": AR(beam_size=4, maxlenratio=-8, lm=str(folder / "lm.arpa")),
        "par, n-grams draft": PAR(
            beam_size=4, draft=f"prefix_beam:lm={folder / 'lm.arpa'},bonus=0.5", measure="decoder"
        ),
        "ctc_beam, n-grams": CTCBeam(beam_size=4, lm=str(folder / "lm.arpa"), phrases=phrases),
        "par, phrases": PAR(beam_size=4, phrases=phrases, phrase_weight=2.0),
        "ar, phrases": AR(beam_size=4, maxlenratio=-8, phrases=phrases, phrase_weight=2.0),
        "ctc_beam, phrases": CTCBeam(beam_size=4, phrases=phrases, phrase_weight=2.0),
        "rescore, phrases": Rescore(beam_size=4, phrases=phrases, phrase_weight=2.0),
    }
    if find_spec("kenlm"):
        binary = str(Path(__file__).parents[1] / "decode" / "kenlm" / "trie.bin")
        decoders["ar, KenLM"] = AR(beam_size=4, maxlenratio=-8, lm=binary)
        decoders["ctc_beam, KenLM"] = CTCBeam(beam_size=4, lm=binary, phrases=phrases)
    for name, decoder in decoders.items():
        yield Case(name, decoder, plain)
    for encoder in ("branchformer", "e_branchformer", "transformer"):
        yield Case(f"par, {encoder}", PAR(beam_size=4), asr(encoder=encoder))
    yield Case("greedy, legacy positions", Greedy(), asr(encoder_conf={"rel_pos_type": "legacy"}))
    yield Case("greedy, global mean", Greedy(), asr(normalize="global_mvn"))
    yield Case("par, bfloat16", PAR(beam_size=4), plain, dtype=torch.bfloat16)

    def s2t(kind: str = "s2t") -> Callable[[], tuple[HybridModel, Tokenizer]]:
        def make() -> tuple[HybridModel, Tokenizer]:
            tokenizer = tokenizer_in(folder)
            return s2t_model(tokenizer, kind), tokenizer

        return make

    auto = PromptOptions(language="auto")
    yield Case("s2t, greedy", Greedy(), s2t())
    yield Case("s2t, par", PAR(beam_size=4), s2t(), PromptOptions(language="deu", text_prompt="the cat"))
    yield Case("s2t, par, language asked", PAR(beam_size=4), s2t(), auto)
    yield Case("s2t, ar, language asked", AR(beam_size=4, maxlenratio=-12), s2t(), auto)
    timed = PromptOptions(timestamps=True)
    yield Case("s2t, ar, times", AR(beam_size=4, ctc_weight=0.0, maxlenratio=-12), s2t(), timed)
    yield Case("s2t, rescore", Rescore(beam_size=4), s2t())
    yield Case("s2t, speculative", Speculative(maxlenratio=-10), s2t())
    yield Case("owsm-ctc, greedy", Greedy(), s2t("s2t_ctc"), posteriors=False)
    yield Case("owsm-ctc, ctc_beam", CTCBeam(beam_size=4), s2t("s2t_ctc"), auto, posteriors=False)
    u2pp = of_family(write_wenet, folder / "wenet", "u2pp")
    backward = PAR(0.6, beam_size=4, reverse_weight=0.4)
    yield Case("wenet, par, backward", backward, u2pp)
    yield Case("wenet, par, backward, one at a time", replace(backward, max_mask_parallel=1), u2pp)
    yield Case("wenet, rescore, backward", Rescore(beam_size=4, reverse_weight=0.3), u2pp)
    yield Case("speechbrain, par", PAR(beam_size=4), of_family(write_speechbrain, folder / "speechbrain", "conformer"))
    chinese = PromptOptions(language="zh-CN")
    yield Case("dolphin, par", PAR(beam_size=4), of_family(write_dolphin, folder / "dolphin", "espnet"), chinese)
    alone = AR(beam_size=4, ctc_weight=0.0, maxlenratio=-12)
    yield Case("firered, ar", alone, of_family(write_firered, folder / "firered", "aed"))
    for name, asked in (("", PromptOptions(language="de")), (", language asked", PromptOptions()), (", times", timed)):
        yield Case(f"whisper, ar{name}", AR(beam_size=4, ctc_weight=0.0), lambda: whisper(folder / "whisper"), asked)
    english, head = PromptOptions(language="en"), folder / "head"
    for context in ("draft", "fills"):
        decoder = PAR(0.6, beam_size=4, ctc_weight=0.0, context=context)
        yield Case(f"whisper, par, {context}", decoder, lambda: whisper(folder / "whisper"), english, head=head)
    spelled: dict[str, Decoder] = {
        "letters": PAR(0.6, beam_size=4),
        "letters, rescored": PAR(0.6, beam_size=4, ctc_mode="rescore"),
        "letters, 100 tokens": PAR(0.6, beam_size=4, max_seq_len=100),
        "letters, tolerance": PAR(0.6, beam_size=4, length_tolerance=0.1),
        "letters, a round": PAR(0.6, beam_size=60, max_seq_len=4, ctc_weight=0.01),  # random weights beat a draft
        "letters, 3 rounds": PAR(0.6, beam_size=60, max_seq_len=4, ctc_weight=0.01, rounds=3),
        "letters, fills": PAR(0.6, beam_size=4, context="fills"),
        "usual options": WITH_A_HEAD,
        "no corrections": replace(WITH_A_HEAD, corrections=0),
    }
    for name, decoder in spelled.items():
        yield Case(f"whisper, par, {name}", decoder, lambda: whisper(folder / "whisper"), english, head=head)
    verified = replace(VERIFIED_WITH_A_HEAD, maxlenratio=-12)
    yield Case("whisper, speculative, usual options", verified, lambda: whisper(folder / "whisper"), english, head=head)
