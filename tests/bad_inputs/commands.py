"""Command lines that are wrong in themselves, and values that decoders refuse."""

from __future__ import annotations

from tests.bad_inputs.case import Case

DATA = ("--model", "{}/m", "--data", "{}/d/data.jsonl")
PREDICT = ("predict", *DATA, "--out", "{}/o", "--wandb", "off", "--progress", "false")
SWEEP = ("sweep", *DATA, "--out", "{}/o", "--wandb", "off")

OPTIONS = [
    Case("no command", ("--help-me",), message="there is no command"),
    Case("a misspelt command", ("predcit",), message="did you mean 'predict'"),
    Case("predict: no model", ("predict", "--data", "d", "--out", "o"), message="model"),
    Case("predict: no data", ("predict", "--model", "m", "--out", "o"), message="data"),
    Case("predict: no out", ("predict", *DATA), message="out"),
    *(
        Case(f"predict {option} {value}", (*PREDICT, option, value), message=message)
        for option, value, message in (
            ("--bach_size", "3", "did you mean '--batch_size'"),
            ("--batch_size", "0", "batch_size is 0"),
            ("--batch_size", "two", "batch_size"),
            ("--batch_size", "1.5", "batch_size"),
            ("--batch_seconds", "-1", "batch_seconds is -1"),
            ("--max_seconds", "0", "max_seconds is 0"),
            ("--limit", "0", "limit is 0"),
            ("--limit", "-3", "limit is -3"),
            ("--workers", "-1", "workers is -1"),
            ("--seed", "-1", "seed is -1"),
            ("--piece_seconds", "0", "piece_seconds is 0"),
            ("--normalizer", "bsic", "did you mean 'basic'"),
            ("--wandb", "onlin", "did you mean 'online'"),
            ("--subtitles", "[vt]", "no subtitle format 'vt'"),
            ("--subtitles", "srt,vtt", "subtitles"),
            ("--device", "gpu", "the device is 'gpu'"),
            ("--device", "cuda:99", "CUDA devices"),
            ("--precision", "9", "do not fit this machine"),
            ("--language", "eng", "for S2T (OWSM, Whisper) models"),
            ("--task", "st_deu", "for S2T (OWSM, Whisper) models"),
            ("--timestamps", "true", "for S2T (OWSM, Whisper) models"),
            ("--text_prompt", "a", "for S2T (OWSM, Whisper) models"),
            ("--long_audio", "maybe", "long_audio"),
            ("--config", "nowhere.yaml", "nowhere.yaml"),
            ("--trainer.max_tme", "3", "did you mean '--trainer.max_time'"),
            ("--trainer.devices", "0", "do not fit this machine"),
            ("--trainer.accelerator", "foo", "do not fit this machine"),
            ("--trainer.strategy", "foo", "do not fit this machine"),
            ("--trainer.fast_dev_run", "true", "trainer.fast_dev_run"),
            ("--trainer.limit_predict_batches", "1", "trainer.limit_predict_batches"),
            ("--trainer.overfit_batches", "1", "trainer.overfit_batches"),
            ("--trainer.callbacks", "[lightning.pytorch.callbacks.Timer]", "trainer.callbacks"),
            ("--trainer.enable_progress_bar", "false", "trainer.enable_progress_bar"),
        )
    ),
    *(
        Case(f"sweep {option} {value}", (*SWEEP, option, value), message=message)
        for option, value, message in (
            ("--decoder", "parr", "did you mean 'par'"),
            ("--decoder", "tuned", "there is no decoder.yaml in"),
            ("--decoder.thresold", "0.5", "did you mean 'threshold'"),
            ("--decoder.threshold", "0.5,high", "threshold"),
            ("--decoder.threshold", "0.5,0.5", "two points of the sweep have the same options"),
            ("--decoder.threshold", "[]", "no points"),
            ("--decoder.threshold", "[0.5", "expected values with commas"),
            ("--limit", "0", "limit is 0"),
            ("--batch_size", "0", "batch_size is 0"),
            ("--repeats", "-1", "repeats is -1"),
            ("--sample", "-1", "sample is -1"),
            ("--sample", "0", "sample is 0"),
            ("--seed", "-1", "seed is -1"),
            ("--timed_utterances", "-1", "timed_utterances is -1"),
            ("--memory_gib", "-1", "memory_gib is -1"),
            ("--accelerator", "foo", "does not fit"),
            ("--wandb", "bogus", "the W&B mode is 'bogus'"),
            ("--wandb_layout", "rows", "the W&B layout is 'rows'"),
            ("--points", "[{thresold: 1}]", "did you mean 'threshold'"),
        )
    ),
    Case("bench: a size that does not exist", ("bench", "--size", "tni"), message="did you mean 'tiny'"),
    Case("bench: a model without data", ("bench", "--model", "{}/m"), message="without --data"),
    Case("bench: no repeats", ("bench", "--repeats", "0"), message="repeats is 0"),
    Case("bench: a device that does not exist", ("bench", "--size", "tiny", "--device", "gpu"), message="gpu"),
    Case("ngrams: nothing", ("ngrams",), message="ngrams got no --model"),
    Case(
        "ngrams: texts that are not there",
        ("ngrams", "--model", "{}/m", "--texts", "{}/none.txt", "--out", "{}/lm.arpa"),
        message="cannot be read",
    ),
    Case("slurm: no command", ("slurm", "--nodes", "2"), message="slurm got no command"),
    Case("slurm: another command", ("slurm", "--", "compare"), message="no command for many devices"),
    Case("transcribe: no file", ("transcribe",), message="files"),
    Case("transcribe: a batch of none", ("transcribe", "a.wav", "--batch_size", "0"), message="batch_size is 0"),
    Case("rerun: no folder", ("rerun", "{}/none"), message="holds no prediction"),
    Case("validate: nothing", ("validate",), message="no model to train"),
]

DECODERS = [
    Case(f"{decoder} {option} {value}", (*PREDICT, "--decoder", decoder, f"--decoder.{option}", value), message=message)
    for decoder, option, value, message in (
        ("par", "threshold", "3", "expected a probability"),
        ("par", "threshold", "-0.1", "expected a probability"),
        ("par", "threshold", "high", "threshold is 'high'"),
        ("par", "beam_size", "0", "beam_size is 0"),
        ("par", "draft", "beam", "there is no drafter 'beam'"),
        ("par", "draft", "prefix_beam:lm=none.arpa", "cannot be read"),
        ("par", "beam_size", "2.5", "beam_size is '2.5'"),
        ("par", "max_seq_len", "0", "max_seq_len is 0"),
        ("par", "max_seq_len", "long", "max_seq_len is 'long'"),
        ("par", "max_mask_parallel", "0", "max_mask_parallel is 0"),
        ("par", "max_mask_parallel", "-2", "max_mask_parallel is -2"),
        ("par", "ctc_weight", "1.5", "ctc_weight is 1.5"),
        ("par", "ctc_mode", "serch", "ctc_mode is 'serch'"),
        ("par", "context", "fils", "did you mean 'fills'"),
        ("par", "rounds", "0", "rounds is 0"),
        ("par", "rounds", "two", "rounds is 'two'"),
        ("par", "nbest", "0", "nbest is 0"),
        ("par", "margin", "-1", "margin -1"),
        ("par", "lm", "{}/none", "no language model"),
        ("par", "reference", "espnt", "reference is 'espnt'"),
        ("par", "thresold", "1", "did you mean 'threshold'"),
        ("ar", "beam_size", "0", "beam_size and nbest"),
        ("ar", "nbest", "0", "beam_size and nbest"),
        ("ar", "ctc_weight", "-1", "ctc_weight is -1"),
        ("ar", "pre_beam_ratio", "0.5", "pre_beam_ratio is 0.5"),
        ("ar", "ctc_margin", "-1", "ctc_margin is -1"),
        ("ar", "lm", "{}/none", "no language model"),
        ("ar", "maxlenratio", "long", "maxlenratio is 'long'"),
        ("rescore", "beam_size", "0", "expected at least 1"),
        ("rescore", "token_beam", "0", "expected at least 1"),
        ("ctc_beam", "nbest", "0", "expected at least 1"),
        ("ctc_beam", "blank_skp", "1", "did you mean 'blank_skip'"),
        ("speculative", "margin", "-1", "margin is -1"),
        ("speculative", "lookahead", "-1", "lookahead -1"),
        ("greedy", "beam_size", "3", "has no option 'beam_size'"),
        ("gredy", "nbest", "1", "did you mean 'greedy'"),
    )
] + [
    Case(
        "par: a reference and an option that contradicts it",
        (*PREDICT, "--decoder", "par", "--decoder.reference", "espnet", "--decoder.threshold", "0.5"),
        message="the option threshold is 0.5",
    ),
    Case(
        "a tuned decoder without a model",
        ("predict", "--decoder", "tuned", *PREDICT[3:]),
        message="no --model was named",
    ),
    Case("a tuned decoder that nobody left", (*PREDICT, "--decoder", "tuned"), message="there is no decoder.yaml in"),
    Case(
        "a tuned decoder that is no configuration",
        PREDICT,
        lambda folder: (folder / "m" / "decoder.yaml").write_text("- par"),
        message="decoder.yaml is no configuration of a decoder",
    ),
]
