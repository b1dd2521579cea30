"""The search for a setting: one thing at a time, each from the best of what came before."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace

from parlab.commands.tune.measures import Judged
from parlab.commands.tune.trials import Laboratory, Trial
from parlab.decode import PAR
from parlab.decode.confidence.measure import DEFAULT, find_measure

MEASURES = 3  # the best ones by caught errors; besides, the default's and the posterior
SHARES = (0.05, 0.1, 0.2, 0.35, 0.6)  # of masked tokens, from which thresholds are made
MOST = 0.8  # likewise, of a draft most of which is wrong


@dataclass
class Search:
    """The trials so far.

    Attributes:
        judged: measures, the best one first.
        start: what every setting has, unless the search says otherwise.
        watch: is told of each trial.
        policies: that are tried besides ``threshold``.
        margins: that are tried besides the one of ``start``.
        all_measures: whether all that were judged are tried, not the best ones only.
    """

    laboratory: Laboratory
    judged: Sequence[Judged]
    start: PAR
    watch: Callable[[Trial], None] = lambda trial: None
    policies: Sequence[str] = ()
    margins: Sequence[int] = ()
    all_measures: bool = False
    trials: dict[PAR, Trial] = field(default_factory=dict)

    def run(self, ctc_weights: Sequence[float], beams: Sequence[int]) -> list[Trial]:
        """All trials."""
        # 1. CTC's weight, with a fifth of the tokens masked by the default's measure.
        own = {find_measure(j.measure): j for j in self.judged}
        posterior = own.get(find_measure(DEFAULT), self.judged[0])
        default = own.get(find_measure(self.start.measure), posterior)
        beam = max(beams)
        first = replace(self.start, measure=default.measure, threshold=default.threshold(0.2), beam_size=beam)
        best = self._best(replace(first, ctc_weight=w) for w in ctc_weights)
        # 2. The measure, with a tenth and a fifth masked; of each the mean counts.
        # The decoder's is always tried: it catches few wrong tokens, but marks what follows them too, so that whole words are filled.
        decoder = own.get(find_measure("decoder"), default)
        listed = self.judged if self.all_measures else (*self.judged[:MEASURES], default, posterior, decoder)
        chosen = list({j.measure: j for j in listed}.values())
        rates = {}
        for j in chosen:
            shares = [replace(best, measure=j.measure, threshold=j.threshold(s)) for s in (0.1, 0.2)]
            rates[j.measure] = sum(self._try(decoder).wer for decoder in shares)
        measure = min(chosen, key=lambda j: rates[j.measure])
        # One that reads the decoder costs a pass over every draft: the best one that does not is kept beside it.
        free = [j for j in chosen if not find_measure(j.measure).reads_decoder]
        cheap = min(free, key=lambda j: rates[j.measure], default=measure)
        for judged in {j.measure: j for j in (measure, cheap)}.values():
            self._refine(replace(best, measure=judged.measure), judged, beams)
        return list(self.trials.values())

    def _refine(self, best: PAR, judged: Judged, beams: Sequence[int]) -> None:
        """For a measure the threshold, the policy, the rounds and the margin with a tenth and a fifth masked, and the beam at all
        thresholds."""
        shares = (*SHARES, MOST) if judged.wrong.mean() > 0.5 else SHARES
        thresholds = [replace(best, threshold=judged.threshold(s)) for s in shares]
        best = self._best(thresholds)
        policies = [replace(d, policy=p) for d in thresholds[1:3] for p in self.policies]
        policy = self._best([*thresholds[1:3], *policies]).policy
        # One round more judges what the first one wrote; where the default has several, they stay.
        once = best.rounds
        again = [replace(d, policy=policy, rounds=2) for d in thresholds[1:3] if once == 1]
        rounds = self._best([*(replace(d, policy=policy) for d in thresholds[1:3]), *again]).rounds
        # How much longer than its segment a fill may be.
        lengths = (self.start.margin, *self.margins)
        decoders = [replace(d, policy=policy, rounds=rounds, margin=m) for d in thresholds[1:3] for m in lengths]
        margin = self._best(decoders).margin
        ends = [
            replace(d, policy=p, rounds=r, margin=margin, beam_size=b)
            for p, r in dict.fromkeys(((policy, rounds), (policy, once), ("threshold", rounds), ("threshold", once)))
            for b in beams
            for d in thresholds
        ]
        self._best(ends)

    def _try(self, decoder: PAR) -> Trial:
        if decoder not in self.trials:
            self.trials[decoder] = self.laboratory.run(decoder)
            self.watch(self.trials[decoder])
        return self.trials[decoder]

    def _best(self, decoders: Iterable[PAR]) -> PAR:
        """The decoder with the fewest errors; among equals the one with the least work."""
        return min(decoders, key=lambda d: (self._try(d).wer, self._try(d).work))


def frontier(trials: Sequence[Trial]) -> list[Trial]:
    """The trials that none beats in both errors and work, the one with the fewest errors first."""
    found: list[Trial] = []
    for trial in sorted(trials, key=lambda t: (t.wer, t.work)):
        if not found or trial.work < found[-1].work:
            found.append(trial)
    return found
