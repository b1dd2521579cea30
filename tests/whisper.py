"""Tiny random Whisper models by transformers' own classes, with a made-up tokenizer, as folders in the Hugging Face layout."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

from parlab.model.heads.folder import write_head
from parlab.model.heads.network import DraftHead, HeadOptions
from parlab.model.hybrid import HybridModel
from parlab.text.tokenizer import Tokenizer

LANGUAGES = ("en", "de", "fr")
WINDOW = 1.0  # seconds, for the 30 of the real ones
WORDS = "the cat sat on mat and looked at moon a dog ran over hill to find another".split()


def whisper_tokenizer(multilingual: bool = True, times: bool = True) -> dict[str, Any]:
    """A byte-level BPE with a few merges, as ``tokenizer.json``, laid out as OpenAI's: text, end, start, languages, tasks, times."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=290, show_progress=False, initial_alphabet=pre_tokenizers.ByteLevel.alphabet()
    )
    bpe.train_from_iterator([f" {word} {word}" for word in WORDS] * 3, trainer)
    names = ["endoftext", "startoftranscript", *LANGUAGES, "translate", "transcribe", "startoflm", "startofprev"]
    names += ["nospeech", "notimestamps"]
    if times:
        names += [f"{i * 0.02:.2f}" for i in range(round(WINDOW / 0.02) + 1)]
    bpe.add_special_tokens([f"<|{name}|>" for name in names])
    return json.loads(bpe.to_str())


# 6 parameters and those of decoding: what makes one folder differ from another.
def write_whisper(
    folder: Path,
    multilingual: bool = True,
    bands: int = 80,
    seed: int = 0,
    half: bool = False,
    positions: int = 40,
    **generation: Any,
) -> Any:
    """Write a random model and return transformers' own, in float32.

    Args:
        multilingual: whether ``generation_config.json`` names languages and tasks.
        bands: mel bands.
        half: store float16 (transformers' model then has the rounded weights too).
        positions: tokens that the decoder can read.
        generation: entries of ``generation_config.json``; ``suppress_tokens`` are added to the usual ones.
    """
    from transformers import GenerationConfig, WhisperConfig, WhisperFeatureExtractor, WhisperForConditionalGeneration

    folder.mkdir(parents=True, exist_ok=True)
    spec = whisper_tokenizer(multilingual)
    ids = {token["content"]: token["id"] for token in spec["added_tokens"]}
    vocabulary = max(ids.values()) + 1
    eos = ids["<|endoftext|>"]
    config = WhisperConfig(
        vocab_size=vocabulary,
        num_mel_bins=bands,
        d_model=32,
        encoder_layers=2,
        encoder_attention_heads=4,
        decoder_layers=2,
        decoder_attention_heads=4,
        encoder_ffn_dim=64,
        decoder_ffn_dim=64,
        max_source_positions=round(WINDOW * 50),
        max_target_positions=positions,
        bos_token_id=eos,
        eos_token_id=eos,
        pad_token_id=eos,
        decoder_start_token_id=ids["<|startoftranscript|>"],
    )
    torch.manual_seed(seed)
    model = WhisperForConditionalGeneration(config).eval()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():  # sharper than transformers' start, so that the tokens depend on the audio
        for name, value in model.named_parameters():
            if value.dim() > 1 and "encoder.embed_positions" not in name:
                value.copy_(torch.randn(value.shape, generator=generator) * (2.0 / value.size(-1)) ** 0.5)
        model.model.decoder.embed_tokens.weight.mul_(1.5)
        model.model.decoder.embed_tokens.weight[eos].mul_(2.5)
        if half:
            model.half().float()
    options: dict[str, Any] = {
        "is_multilingual": multilingual,
        "suppress_tokens": [3, 7, 11, ids["<|startoftranscript|>"], ids["<|startofprev|>"], ids["<|nospeech|>"]],
        "begin_suppress_tokens": [220 % eos, eos],
        "no_timestamps_token_id": ids["<|notimestamps|>"],
        "prev_sot_token_id": ids["<|startofprev|>"],
        "max_initial_timestamp_index": 10,
        "max_length": 40,
        "return_timestamps": False,
    }
    options["suppress_tokens"] += generation.pop("suppress_tokens", [])
    options |= generation
    if multilingual:
        options["lang_to_id"] = {f"<|{name}|>": ids[f"<|{name}|>"] for name in LANGUAGES}
        options["task_to_id"] = {name: ids[f"<|{name}|>"] for name in ("translate", "transcribe")}
    named = {name: getattr(config, name) for name in ("bos_token_id", "eos_token_id", "pad_token_id")}
    model.generation_config = GenerationConfig(decoder_start_token_id=config.decoder_start_token_id, **named, **options)
    (model.half() if half else model).save_pretrained(folder)
    model.float()
    extractor = WhisperFeatureExtractor(feature_size=bands, chunk_length=round(WINDOW))
    extractor.save_pretrained(folder)
    (folder / "tokenizer.json").write_text(json.dumps(spec), encoding="utf-8")
    return model


def features(folder: Path, waves: list[torch.Tensor]) -> torch.Tensor:
    """transformers' own features (B, bands, frames) of waveforms."""
    from transformers import WhisperFeatureExtractor

    named = (folder / "preprocessor_config.json").is_file()
    extractor = WhisperFeatureExtractor.from_pretrained(folder) if named else WhisperFeatureExtractor()
    return extractor([w.numpy() for w in waves], sampling_rate=16000, return_tensors="pt").input_features


# 6 parameters: what transformers' search reads.
def generated(
    model: Any, x: torch.Tensor, prompt: tuple[int, ...], beam_size: int, timed: bool, longest: int = 40
) -> list[int]:
    """Tokens after ``prompt`` that transformers' own search writes for features ``x`` (1, bands, frames), the end not among them.

    This is what ``WhisperForConditionalGeneration.generate`` runs on a window, before it cuts the result at pairs of times.
    """
    from transformers.generation import logits_process as rules
    from transformers.generation.utils import GenerationMixin

    options = model.generation_config
    listed = [
        rules.SuppressTokensAtBeginLogitsProcessor(options.begin_suppress_tokens, len(prompt)),
        rules.SuppressTokensLogitsProcessor(options.suppress_tokens),
    ]
    if timed:
        listed.append(rules.WhisperTimeStampLogitsProcessor(options, len(prompt)))
    plain = type(options)(
        decoder_start_token_id=options.decoder_start_token_id,
        eos_token_id=options.eos_token_id,
        pad_token_id=options.pad_token_id,
        max_length=longest,
        num_beams=beam_size,
    )
    with torch.inference_mode():
        found = GenerationMixin.generate(
            model,
            x,
            generation_config=plain,
            logits_processor=rules.LogitsProcessorList(listed),
            decoder_input_ids=torch.tensor([prompt]),
        )
    tokens = found[0, len(prompt) :].tolist()
    return tokens[: tokens.index(options.eos_token_id)] if options.eos_token_id in tokens else tokens


def write_letter_head(folder: Path, model: HybridModel, letters: Tokenizer, sharpness: float, spaces: float) -> None:
    """Write a random draft head for a model whose states are 32 wide.

    Args:
        letters: its vocabulary, the blank between words second.
        sharpness: factor of its output weights.
        spaces: how much more often than chance it writes a blank between words, as a log-odds.
    """
    torch.manual_seed(0)
    head = DraftHead(HeadOptions(width=16, heads=2, kernel=3, blocks=1), 32, len(letters.token_list)).eval()
    with torch.no_grad():
        head.output.weight.mul_(sharpness)
        head.output.bias[1] += spaces
    write_head(head, letters, model, folder, "A head")
