"""The prompt cache: which prefixes were seen lately, and so what of a prompt is written, read or fresh."""

from collections import OrderedDict

from promptmill.testing.simulator.answer import InputUsage
from promptmill.testing.simulator.clock import to_ns
from promptmill.testing.simulator.prompt import Prompt

_MOST_PREFIXES = 10_000


class PromptCache:
    """Prefixes by digest, with the time they expire. Caches prefixes of any size, unlike the API."""

    def __init__(self) -> None:
        self._expires_ns: OrderedDict[bytes, int] = OrderedDict()

    def split(self, prompt: Prompt, now_ns: int) -> InputUsage:
        """Tell what the prompt costs now: the longest cached prefix is read, up to the last breakpoint written."""
        read = longest = written_5m = written_1h = 0
        for point in reversed(prompt.breakpoints):
            if self._expires_ns.get(point.digest, now_ns) > now_ns:
                read = point.tokens
                break
        for point in prompt.breakpoints:
            more = max(point.tokens - max(read, longest), 0)
            if point.for_an_hour:
                written_1h += more
            else:
                written_5m += more
            longest = max(longest, point.tokens)
        fresh = prompt.tokens - max(read, longest)
        return InputUsage(fresh, written_5m, written_1h, read)

    def remember(self, prompt: Prompt, now_ns: int) -> None:
        """Keep the prefixes of a prompt that was admitted."""
        for point in prompt.breakpoints:
            self._expires_ns[point.digest] = now_ns + to_ns(point.cache_for)
            self._expires_ns.move_to_end(point.digest)
        while len(self._expires_ns) > _MOST_PREFIXES:
            self._expires_ns.popitem(last=False)
