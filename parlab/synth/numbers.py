"""English number words, in the ways people say them."""

from __future__ import annotations

from random import Random

DIGITS = "ZERO ONE TWO THREE FOUR FIVE SIX SEVEN EIGHT NINE".split()
TEENS = "TEN ELEVEN TWELVE THIRTEEN FOURTEEN FIFTEEN SIXTEEN SEVENTEEN EIGHTEEN NINETEEN".split()
TENS = "TWENTY THIRTY FORTY FIFTY SIXTY SEVENTY EIGHTY NINETY".split()
ORDINALS = (
    "FIRST SECOND THIRD FOURTH FIFTH SIXTH SEVENTH EIGHTH NINTH TENTH ELEVENTH TWELFTH THIRTEENTH FOURTEENTH FIFTEENTH "
    "SIXTEENTH SEVENTEENTH EIGHTEENTH NINETEENTH TWENTIETH"
).split()
MONTHS = "JANUARY FEBRUARY MARCH APRIL MAY JUNE JULY AUGUST SEPTEMBER OCTOBER NOVEMBER DECEMBER".split()


def cardinal(number: int) -> list[str]:
    """The words of 0 to 999999."""
    if number < 10:
        return [DIGITS[number]]
    if number < 20:
        return [TEENS[number - 10]]
    if number < 100:
        return [TENS[number // 10 - 2], *([DIGITS[number % 10]] if number % 10 else [])]
    if number < 1000:
        return [DIGITS[number // 100], "HUNDRED", *(cardinal(number % 100) if number % 100 else [])]
    return [*cardinal(number // 1000), "THOUSAND", *(cardinal(number % 1000) if number % 1000 else [])]


def ordinal(number: int) -> list[str]:
    """The words of 1st to 39th."""
    if number <= 20:
        return [ORDINALS[number - 1]]
    if number == 30:
        return ["THIRTIETH"]
    return [TENS[number // 10 - 2], ORDINALS[number % 10 - 1]]


def digits(random: Random, length: int) -> list[str]:
    """Digits one by one; a speaker says either ZERO or OH, and keeps to it."""
    zero = random.choice(["ZERO", "OH"])
    return [zero if digit == 0 else DIGITS[digit] for digit in (random.randrange(10) for _ in range(length))]


def in_pairs(number: int) -> list[str]:
    """A number of 3 or 4 digits as people say addresses and years: 280 -> TWO EIGHTY, 1967 -> NINETEEN SIXTY SEVEN."""
    head, tail = divmod(number, 100)
    if tail == 0:
        return [*cardinal(head), "HUNDRED"]
    return [*cardinal(head), *(["OH", DIGITS[tail]] if tail < 10 else cardinal(tail))]


def spoken_number(random: Random, most: int = 4) -> list[str]:
    """A random number of 1 to ``most`` digits in a random way: digits, pairs, or in full."""
    length = random.randint(1, most)
    if length == 1:
        return digits(random, 1)
    way = random.random()
    if way < 0.4:
        return digits(random, length)
    number = random.randrange(10 ** (length - 1), 10**length)
    if length in (3, 4) and way < 0.85:
        return in_pairs(number)
    return cardinal(number)
