"""How alike two texts are: BLEU-1 to 4, ROUGE-L and CIDEr-D, each answer with one reference.

Papineni et al., BLEU, ACL 2002 (counts of the whole set, brevity penalty); Lin, ROUGE, 2004 (longest common
subsequence, recall weighted with beta = 1.2, mean over the answers); Vedantam et al., CIDEr, CVPR 2015 (n-grams up to
four weighted by how few references have them, clipped, with a Gaussian penalty on the difference of lengths, times
ten). Constants are those of the COCO caption evaluation.

Words are those of the Penn treebank without punctuation: lower case, "don't" is "do n't", numbers and words with inner
hyphens or underscores stay whole, angle brackets and other signs are words of their own. The COCO code runs Stanford's
tokeniser in Java; rare texts (abbreviations, unusual signs) are cut differently there.
"""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

MAX_N = 4
_BETA, _SIGMA = 1.2, 6.0
_TINY, _SMALL = 1e-15, 1e-9

Words = tuple[str, ...]

_WORD = re.compile(
    r"[,.]?\d+(?:[.,:]\d+)*(?![a-z])"  # 1088.3,497.5
    r"|n't\b|'(?:s|m|d|ll|re|ve)\b"
    r"|[a-z0-9]+?(?=n't\b)"
    r"|[^\W_]+(?:[-_/][^\W_]+)*"
    r"|[^\w\s]|_"
)
_PUNCTUATION = frozenset("'`\".?!,:-;")


@dataclass(frozen=True, slots=True, kw_only=True)
class LanguageScores:
    """Each 0 to 1, but CIDEr 0 to 10; all grow with likeness."""

    bleu: tuple[float, float, float, float]
    """By n = 1 to 4."""
    rouge_l: float
    cider: float


def score_texts(answers: Sequence[str], references: Sequence[str]) -> LanguageScores:
    """Compare answers with their references.

    Raises:
        ValueError: there is none, or their numbers differ.
    """
    if len(answers) != len(references) or not answers:
        raise ValueError(f"{len(answers)} answers for {len(references)} references; as many of both, and at least one")
    cut = [(words(answer), words(reference)) for answer, reference in zip(answers, references, strict=True)]
    own, true = [pair[0] for pair in cut], [pair[1] for pair in cut]
    return LanguageScores(bleu=bleu(own, true), rouge_l=rouge_l(own, true), cider=cider(own, true))


def words(text: str) -> Words:
    """The words of a text, without punctuation."""
    return tuple(word for word in _WORD.findall(text.lower()) if word not in _PUNCTUATION)


def bleu(answers: Sequence[Words], references: Sequence[Words]) -> tuple[float, float, float, float]:
    """BLEU-1 to 4 of the whole set."""
    right, said = np.zeros(MAX_N), np.zeros(MAX_N)
    for answer, reference in zip(answers, references, strict=True):
        for n in range(1, MAX_N + 1):
            own, true = ngrams(answer, n), ngrams(reference, n)
            right[n - 1] += (own & true).total()
            said[n - 1] += own.total()
    precision = np.cumprod((right + _TINY) / (said + _SMALL)) ** (1 / np.arange(1, MAX_N + 1))
    ratio = (sum(map(len, answers)) + _TINY) / (sum(map(len, references)) + _SMALL)
    penalty = np.exp(1 - 1 / ratio) if ratio < 1 else 1.0
    one, two, three, four = (precision * penalty).tolist()
    return one, two, three, four


def rouge_l(answers: Sequence[Words], references: Sequence[Words]) -> float:
    """Mean F of the longest common subsequence."""
    return float(np.mean([_rouge_l(*pair) for pair in zip(answers, references, strict=True)]))


def cider(answers: Sequence[Words], references: Sequence[Words]) -> float:
    """CIDEr-D; a single pair has no rare words, so its score is 0."""
    grams = [[ngrams(text, n) for n in range(1, MAX_N + 1)] for text in references]
    held_by = Counter(gram for text in grams for counts in text for gram in counts)
    log_num = np.log(len(references))

    def weigh(counts: Counter[Words]) -> dict[Words, float]:
        return {gram: count * (log_num - np.log(max(1, held_by[gram]))) for gram, count in counts.items()}

    scores = []
    for answer, text, own_grams in zip(answers, references, grams, strict=True):
        # The published code measures lengths in pairs of words.
        difference = max(len(answer) - 1, 0) - max(len(text) - 1, 0)
        likeness = [_cosine(weigh(ngrams(answer, n + 1)), weigh(own_grams[n])) for n in range(MAX_N)]
        scores.append(10 * np.mean(likeness) * np.exp(-(difference**2) / (2 * _SIGMA**2)))
    return float(np.mean(scores))


def ngrams(text: Words, n: int) -> Counter[Words]:
    """How often each run of n words occurs."""
    return Counter(text[k : k + n] for k in range(len(text) - n + 1))


def _cosine(own: dict[Words, float], true: dict[Words, float]) -> float:
    shared = sum(min(weight, true.get(gram, 0.0)) * true.get(gram, 0.0) for gram, weight in own.items())
    norm = np.sqrt(sum(w * w for w in own.values())) * np.sqrt(sum(w * w for w in true.values()))
    return float(shared / norm) if norm else 0.0


def _rouge_l(answer: Words, reference: Words) -> float:
    shared = _longest_common(answer, reference)
    if not shared:
        return 0.0
    precision, recall = shared / len(answer), shared / len(reference)
    return (1 + _BETA**2) * precision * recall / (recall + _BETA**2 * precision)


def _longest_common(a: Words, b: Words) -> int:
    """Length of the longest common subsequence."""
    best = [0] * (len(b) + 1)
    for word in a:
        before = best
        best = [0]
        for k, other in enumerate(b):
            best.append(before[k] + 1 if word == other else max(best[k], before[k + 1]))
    return best[-1]
