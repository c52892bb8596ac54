"""Which group needs which in, an order out."""

from __future__ import annotations

import heapq
from collections.abc import Callable


def topological(
    needs: list[set[int]], rank: Callable[[int], tuple[bool, ...]] = lambda k: ()
) -> list[int]:
    """Kahn's order; of the groups that are ready, one of the least rank comes first."""
    missing = [len(s) for s in needs]
    users: list[list[int]] = [[] for _ in needs]
    for k, s in enumerate(needs):
        for d in s:
            users[d].append(k)
    ready = [(rank(k), k) for k, count in enumerate(missing) if count == 0]
    heapq.heapify(ready)
    order = []
    while ready:
        _, k = heapq.heappop(ready)
        order.append(k)
        for user in users[k]:
            missing[user] -= 1
            if missing[user] == 0:
                heapq.heappush(ready, (rank(user), user))
    return order


def closure(needs: list[set[int]]) -> list[set[int]]:
    """For each group all groups that come after it, directly or not."""
    following: list[set[int]] = [set() for _ in needs]
    for k in reversed(topological(needs)):
        for d in needs[k]:
            following[d] |= {k} | following[k]
    return following
