"""Random lifetimes: nothing alive together overlaps, and the arena stays small."""

import random

from graphflow.compiler.memory_plan import ALIGNMENT, plan_memory


def random_temps(rng):
    temps = {}
    for number in range(rng.randrange(1, 40)):
        first = rng.randrange(0, 30)
        temps[number] = ((first, first + rng.randrange(0, 8)), rng.choice([0, 4, 64, 1000, 65536]))
    return temps


def test_plans_are_right_and_tight():
    rng, ratios = random.Random(0), []
    for _ in range(300):
        temps = random_temps(rng)
        layout = plan_memory(temps)
        for a, (life_a, size_a) in temps.items():
            begin, end = layout.offsets[a], layout.offsets[a] + size_a
            assert begin % ALIGNMENT == 0
            assert end <= layout.arena_bytes
            for b, (life_b, size_b) in temps.items():
                together = life_a[0] <= life_b[1] and life_b[0] <= life_a[1]
                if a < b and together and size_a and size_b:
                    assert end <= layout.offsets[b] or layout.offsets[b] + size_b <= begin
        ratios.append(layout.arena_bytes / layout.peak_live_bytes)
    assert sum(ratios) / len(ratios) < 1.05
    assert max(ratios) < 1.6


def test_without_reuse_every_buffer_has_its_own_place():
    layout = plan_memory({0: ((0, 0), 100), 1: ((5, 5), 100)}, reuse=False)
    assert len(set(layout.offsets.values())) == 2
