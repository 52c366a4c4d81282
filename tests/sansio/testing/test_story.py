"""``Story``: what the text of an error says of what came."""

from tako.testing.story import Story, short


def test_nothing_is_told_of_nothing() -> None:
    assert Story().told() == "before that came: nothing"


def test_the_last_eight_are_told_in_order() -> None:
    story = Story()
    for number in range(8):
        story.add(number)
    assert story.told() == "before that came: 0, 1, 2, 3, 4, 5, 6, 7"
    story.add("8")
    assert story.told() == "before that came: ... 1, 2, 3, 4, 5, 6, 7, '8'"


def test_what_is_long_is_cut() -> None:
    assert short("x" * 97) == repr("x" * 97)
    assert short(b"x" * 97) == f"{'b' + repr('x' * 58)[:-1]}... (100 characters)"
