"""The pocket world's words: twelve categories of fourteen nouns, each noun one token and in one category."""

import re


def _words(line: str) -> tuple[str, ...]:
    return tuple(line.split())


CATEGORIES: dict[str, tuple[str, ...]] = {
    "animal": _words("ant bear camel deer fox goat horse jaguar lion mouse otter rabbit tiger wolf"),
    "fruit": _words("apple banana cherry fig grape kiwi lemon mango orange papaya quince raspberry tangerine melon"),
    "vegetable": _words(
        "asparagus beet carrot eggplant garlic kale leek onion potato radish spinach turnip cabbage pea"
    ),
    "tool": _words("axe chisel drill file hammer jack knife ladder nail plane rake saw wrench shovel"),
    "color": _words("amber blue crimson gray indigo khaki lavender magenta ochre red scarlet turquoise white yellow"),
    "country": _words(
        "argentina brazil chile denmark egypt france ghana hungary india japan kenya norway peru vietnam"
    ),
    "job": _words("actor baker carpenter dentist engineer farmer guard judge lawyer nurse pilot tailor waiter surgeon"),
    "instrument": _words(
        "accordion banjo cello drum flute guitar harp lute oboe piano recorder trumpet violin ukulele"
    ),
    "sport": _words(
        "archery boxing cricket diving fencing golf hockey judo karate rowing skiing tennis wrestling volleyball"
    ),
    "vehicle": _words(
        "ambulance bus canoe ferry glider helicopter jeep kayak limousine motorcycle rocket train van yacht"
    ),
    "garment": _words("apron belt coat dress glove hat jacket kimono mitten poncho robe scarf tie vest"),
    "flower": _words(
        "aster begonia crocus daisy gardenia hyacinth iris jasmine lily marigold orchid peony tulip zinnia"
    ),
}

PLURALS = {"country": "countries", **{name: name + "s" for name in CATEGORIES if name != "country"}}
SINGULARS = {plural: name for name, plural in PLURALS.items()}
CATEGORY_OF = {word: name for name, words in CATEGORIES.items() for word in words}
WORDS = tuple(CATEGORY_OF)

# What one does with a thing of a category: the verb a sentence about it must use.
VERBS = {
    "animal": "feed",
    "fruit": "eat",
    "vegetable": "cook",
    "tool": "use",
    "color": "paint",
    "country": "visit",
    "job": "meet",
    "instrument": "hear",
    "sport": "play",
    "vehicle": "drive",
    "garment": "wear",
    "flower": "smell",
}
PLACES = ("at home", "in town", "at school", "at work", "in summer", "every day")
OPENERS = ("sure !", "of course !", "certainly !", "happy to help !")
NUMBERS = {1: "one", 2: "two", 3: "three", 4: "four", 5: "five"}
NUMBER_VALUES = {word: value for value, word in NUMBERS.items()}
LETTERS = tuple(sorted({word[0] for word in WORDS}))


def article(noun: str) -> str:
    return "an" if noun[0] in "aeiou" else "a"


def tokens(text: str) -> list[str]:
    """Lower-case words and punctuation marks, as the pocket tokenizer splits them."""
    return re.findall(r"\w+|[^\w\s]", text.lower())


def spaced(text: str) -> str:
    """Canonical form for matching: tokens joined by one space."""
    return " ".join(tokens(text))


def tidy(text: str) -> str:
    """Token-spaced text as people write it: no space before punctuation."""
    return re.sub(r" ([.,:!?])", r"\1", text)


def join_and(items: list[str]) -> str:
    """'a', 'a and b', 'a , b and c'."""
    if len(items) < 2:
        return "".join(items)
    return " , ".join(items[:-1]) + " and " + items[-1]
