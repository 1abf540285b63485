"""Whom an attack is measured on: measure names, `<attack>` or `<attack>/<population>`.

A model may have met its members in different ways (paper 1's defense trains on a few of them; the rest shaped only its
generator and its filter), and what leaks of the one says nothing of the other. Every setting has each attack's plain
name, over all its members. One whose members were not all trained on has the populations apart as well, each against
the same non-members. Two are apart from both, and settings are not compared by them: canaries, records made to be
found, and the generator's own members, which are attacked by its images and losses.
"""

from collections.abc import Collection, Iterable

from raymia.errors import InputError

ALL = "all"
DIRECT = "direct"
INDIRECT = "indirect"
CANARY = "canary"
GENERATOR = "generator"
POPULATIONS = (ALL, DIRECT, INDIRECT, CANARY, GENERATOR)

# Populations of a model's members that only some settings have apart.
APART = (DIRECT, INDIRECT)

# Populations whose measures stand for themselves: no setting's worst attack is among them.
SPECIAL = (CANARY, GENERATOR)

# The population of a worst attack that was picked over several of them.
ANY = "any"


def named(attack: str, population: str = ALL) -> str:
    """The measure's name: `loss` over all members, `loss/direct` over those the model was trained on."""
    name = attack if population == ALL else f"{attack}/{population}"
    if parts(name) != (attack, population):
        raise InputError(f"attack {attack!r}: the name holds a '/'; rename yours")
    return name


def parts(name: str) -> tuple[str, str]:
    """Attack and population of a measure's name. Raises InputError for a name that is neither form."""
    attack, slash, population = name.partition("/")
    if not attack or (slash and population not in POPULATIONS[1:]):
        forms = ", ".join(f"<attack>/{one}" for one in POPULATIONS[1:])
        raise InputError(f"measure {name!r}: no such population; name it <attack> (all members), {forms}")
    return attack, population or ALL


def arranged(names: Iterable[str]) -> list[str]:
    """Each measure once: attacks as they first come, the populations of each in their order, the special ones last."""
    known = list(dict.fromkeys(names))
    found = _by_attack([name for name in known if not special(name)])
    for population in SPECIAL:
        found += _by_attack([name for name in known if parts(name)[1] == population])
    return found


def special(name: str) -> bool:
    """Whether a measure stands for itself, and settings are not compared by it."""
    return parts(name)[1] in SPECIAL


def of_members(names: Iterable[str]) -> list[str]:
    """The measures of the model's own members, arranged: those that settings are compared by, and the worst is of."""
    return [name for name in arranged(names) if not special(name)]


def has_apart(names: Iterable[str]) -> bool:
    """Whether a setting with these measures has populations apart; otherwise all its members were trained on."""
    return any(parts(name)[1] in APART for name in names)


def counterpart(name: str, others: Collection[str]) -> str | None:
    """The measure of another setting, out of all of its, that a setting's measure of members is compared with.

    Its own of that name; else its plain one where nothing is apart, so that direct is all and nothing is indirect
    (both populations are then held against members that were trained on). None where it has neither.
    """
    if name in others:
        return name
    attack, population = parts(name)
    return attack if population in APART and attack in others and not has_apart(others) else None


def _by_attack(names: list[str]) -> list[str]:
    attacks = list(dict.fromkeys(parts(name)[0] for name in names))

    def rank(name: str) -> tuple[int, int]:
        attack, population = parts(name)
        return attacks.index(attack), POPULATIONS.index(population)

    return sorted(names, key=rank)
