"""Random sentences of small, closed worlds, for speech synthesis: an AN4-like census and a demo of voice commands.

A grammar is a function from a ``random.Random`` to one sentence in upper case; :data:`GRAMMARS` names them.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random

from parlab.synth.names import FAMILY, GIVEN, KINDS_OF_STREET, PLACES, STREETS
from parlab.synth.numbers import MONTHS, cardinal, digits, in_pairs, ordinal, spoken_number

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
# Letters that people and eSpeak read as words when they stand alone or side by side.
SPOKEN = {"A": "[['eI]]", "I": "eye", "O": "oh", "Z": "zee", "U": "you"}


def an4(random: Random) -> str:
    """A sentence as of the CMU census database: spelled names and streets, numbers, dates, codes, commands."""
    kinds: list[tuple[float, Callable[[Random], list[str]]]] = [
        (24, _spelled),
        (26, _code),
        (16, _phone),
        (14, _number),
        (8, _date),
        (7, _street),
        (5, _command),
    ]
    kind = random.choices([k for _, k in kinds], [w for w, _ in kinds])[0]
    return " ".join(kind(random))


def _spelled(random: Random) -> list[str]:
    way = random.random()
    if way < 0.75:
        return list(random.choice(random.choice([GIVEN, FAMILY, PLACES, STREETS])))
    if way < 0.9:
        return list(random.choice(GIVEN) + random.choice(FAMILY))
    return [random.choice(LETTERS) for _ in range(random.randint(2, 8))]


def _code(random: Random) -> list[str]:
    """RUBOUT G M E F THREE NINE: uniform letters, the part that no language model can guess."""
    command = [random.choice(["RUBOUT", "ERASE", "ENTER"])] if random.random() < 0.6 else []
    letters = [random.choice(LETTERS) for _ in range(random.randint(1, 5))]
    if command == ["ENTER"] and random.random() < 0.6:
        letters = []
    return [*command, *letters, *spoken_number(random, random.choice([2, 3, 4, 5]))]


def _phone(random: Random) -> list[str]:
    length = random.choice([7, 7, 7, 10, 10, 5, 5])
    if length == 10 and random.random() < 0.1:
        return ["AREA", "CODE", *digits(random, 10)]
    return digits(random, length)


def _number(random: Random) -> list[str]:
    return spoken_number(random, 5)


def _date(random: Random) -> list[str]:
    month, day, year = random.choice(MONTHS), random.randint(1, 31), random.randint(1920, 1990)
    years = random.choice([in_pairs(year), cardinal(year % 100), digits_of(year)])
    way = random.random()
    if way < 0.45:
        return [month, *ordinal(day), *years]
    if way < 0.65:
        return [month, *cardinal(day), *years]
    if way < 0.75:
        return [*ordinal(day), "OF", month, *years]
    if way < 0.85:
        return [month, *ordinal(day)]
    return [*cardinal(day), *(list(month) if random.random() < 0.5 else [month]), *years]


def digits_of(number: int) -> list[str]:
    """1970 -> ONE NINE SEVEN ZERO."""
    return [cardinal(int(digit))[0] for digit in str(number)]


def _street(random: Random) -> list[str]:
    house = spoken_number(random, 4) if random.random() < 0.5 else []
    if random.random() < 0.15:
        name = [*(list(random.choice(["EAST", "WEST", "NORTH", "SOUTH"])) if random.random() < 0.5 else [])]
        name += ordinal(random.randint(1, 39))
    else:
        name = list(random.choice(random.choice([STREETS, FAMILY, GIVEN])))
    kind = list(random.choice(KINDS_OF_STREET)) if random.random() < 0.7 else []
    half = ["AND", "A", "HALF"] if house and random.random() < 0.03 else []
    return [*house, *half, *name, *kind]


def _command(random: Random) -> list[str]:
    return [random.choice("YES NO GO HELP STOP START REPEAT ENTER ERASE RUBOUT".split())]


def demo(random: Random) -> str:
    """A voice command, a date, a number or a spelled name: about 110 words in all."""
    way = random.random()
    if way < 0.35:
        words = [*random.choice(_COMMANDS).split(), "ROOM", *cardinal(random.randint(1, 99))]
    elif way < 0.6:
        words = ["CALL", *list(random.choice(GIVEN)), "AT", *digits(random, random.choice([4, 5]))]
    elif way < 0.8:
        words = [random.choice(["REMIND", "WAKE"]), "ME", "ON", random.choice(MONTHS), *ordinal(random.randint(1, 31))]
    else:
        words = ["SPELL", *list(random.choice(random.choice([FAMILY, PLACES])))]
    return " ".join(words)


_COMMANDS = (
    "OPEN THE DOOR OF",
    "CLOSE THE WINDOW OF",
    "TURN ON THE LIGHT IN",
    "TURN OFF THE RADIO IN",
    "START THE HEATING IN",
    "STOP THE MUSIC IN",
)


def spoken(text: str) -> str:
    """A sentence as eSpeak reads it: single letters by their names, words in lower case."""
    return " ".join(SPOKEN.get(w, w) if len(w) == 1 else w.lower() for w in text.split())


GRAMMARS: dict[str, Callable[[Random], str]] = {"an4": an4, "demo": demo}
