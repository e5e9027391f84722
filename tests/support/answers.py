"""Prompts and answers as they come in practice, about 500 tokens each: what metrics are tried and timed on."""

from __future__ import annotations

from typing import Any, Final, NamedTuple


class Example(NamedTuple):
    prompt: str
    text: str
    system: str = ""

    @property
    def request(self) -> dict[str, Any]:
        request = {"model": "claude-haiku-5-5", "messages": [{"role": "user", "content": self.prompt}]}
        return {**request, "system": self.system} if self.system else request


EXPLANATION: Final = Example(
    "How do containers differ from virtual machines, and when should a small team use which? "
    "Answer in at most 400 words, without using a table.",
    """\
Containers and virtual machines both let several workloads share one computer, but they draw the line in \
different places.

A virtual machine brings a whole operating system. A hypervisor such as KVM, Xen or VMware ESXi pretends to be \
hardware, and the guest boots its own kernel on top of it. That costs memory, typically 300 MB to 1 GB before \
your program has started, and a boot takes 10 to 60 seconds. In return the isolation is strong: a fault in the \
guest's kernel stays in the guest. This is why Amazon built Firecracker, which starts a stripped-down machine in \
about 125 ms, for AWS Lambda.

A container shares the host's kernel. Namespaces hide other processes, and control groups, merged into Linux \
2.6.24 in 2008, limit CPU and memory. There is nothing to boot, so `docker run alpine true` returns in well \
under a second and an idle container needs a few megabytes. The price is a larger attack surface: a kernel bug \
such as CVE-2022-0185 can let a process out.

**When to use which**

1. Use containers for your own services. Images make "it works on my machine" a thing that you can ship, and \
Kubernetes, Nomad or plain Docker Compose can restart them for you.
2. Use virtual machines when you run code that you do not trust, need another operating system such as Windows \
Server 2022, or have to load kernel modules.
3. Use both when you rent: nearly every cloud runs your containers inside virtual machines anyway, for example \
Google Cloud Run or Azure Container Apps.

For a team of five people, I would start with one virtual machine of 4 GB and Docker Compose. At Basecamp a \
handful of servers with Kamal replaced a cloud bill of more than $3 million a year; most small teams never need \
more than that. Move to Kubernetes when you have so many services that nobody knows all of them, perhaps at 20 \
or 30, and not before.""",
)

CODE: Final = Example(
    "Write a Python function that retries a coroutine with exponential backoff and jitter, and show how to use it.",
    """\
Here is a small helper that retries a coroutine function. It doubles the wait after each failure and picks a \
random time within it ("full jitter"), so that many clients do not come back at the same moment:

```python
import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import TypeVar

T = TypeVar("T")


async def retry(
    function: Callable[[], Awaitable[T]],
    *,
    attempts: int = 5,
    base: float = 0.5,
    cap: float = 30.0,
    retry_on: tuple[type[Exception], ...] = (ConnectionError, TimeoutError),
) -> T:
    for attempt in range(attempts):
        try:
            return await function()
        except retry_on:
            if attempt == attempts - 1:
                raise
            await asyncio.sleep(random.uniform(0, min(cap, base * 2**attempt)))
    raise AssertionError("unreachable")
```

To use it, wrap the call in a function without arguments:

```python
async def main() -> None:
    async with aiohttp.ClientSession() as session:
        async def fetch() -> dict:
            async with session.get("https://api.example.com/v1/items") as response:
                response.raise_for_status()
                return await response.json()

        items = await retry(fetch, attempts=4)
        print(len(items), "items")
```

A few notes:

- **Only retry what can succeed.** A 404 or a `ValueError` will fail again; `retry_on` names the errors that may \
pass.
- **Respect `Retry-After`.** When a server answers 429 or 503 with that header, wait at least as long as it \
says.
- **Bound the whole.** With `attempts=5` and `base=0.5` the waits add up to at most 7.5 seconds. Wrap the call \
in `asyncio.timeout(20)` if you need a hard limit.
- **Cancelled tasks.** `asyncio.CancelledError` is not an `Exception` since Python 3.8, so it passes through \
untouched.

If you would rather not maintain this yourself, the libraries `tenacity` and `stamina` do the same with more \
options.""",
)

EMAIL: Final = Example(
    'A customer\'s order 48213 arrived broken (a ceramic lamp). Write the reply. Start with "Dear Ms Okafor".',
    """\
Dear Ms Okafor,

Thank you for writing to us, and for the photographs. I am sorry that the lamp from order 48213 arrived broken. \
It left our workshop in Porto on 3 November in one piece, so it must have been damaged on its way to you, and \
that is ours to put right.

You have two options, and neither will cost you anything:

- **A new lamp.** We can send another Alma table lamp in sage green by DHL Express. It would leave tomorrow and \
should be with you by Friday, 14 November.
- **Your money back.** We would return the full €89.50, shipping included, to the card that you paid with. \
Depending on your bank this usually takes three to five working days.

Please just answer this message with "new lamp" or "refund". You do not need to send the broken pieces back. \
Ceramic can be sharp, so wrap them in newspaper before you throw them away; the cable and the E27 socket can go \
to electrical recycling.

Because this is the second parcel in a month that reached its customer broken, we have also changed how we pack \
these lamps: from this week on each goes into a double-walled box with 6 cm of padding on every side. I will \
follow your new parcel myself until it has arrived.

If there is anything else that I can do for you, please call me directly on +351 22 555 0142, Monday to Friday \
from 9:00 to 17:00.

Kind regards,

Inês Carvalho
Customer Care, Barro & Luz""",
)

EXTRACTION: Final = Example(
    "Extract every person, company and amount from the press release. Respond with JSON only.\n\n<release>\n"
    "Helvetia Robotics AG of Winterthur has raised CHF 42 million ...\n</release>",
    """\
{
  "people": [
    {"name": "Livia Brunner", "role": "chief executive", "company": "Helvetia Robotics AG"},
    {"name": "Jonas Meier", "role": "chief technology officer", "company": "Helvetia Robotics AG"},
    {"name": "Priya Raman", "role": "partner", "company": "Northlake Ventures"},
    {"name": "Marc Delacroix", "role": "head of logistics", "company": "Migros Verteilzentrum Suhr AG"}
  ],
  "companies": [
    {"name": "Helvetia Robotics AG", "city": "Winterthur", "country": "CH", "employees": 180},
    {"name": "Northlake Ventures", "city": "London", "country": "GB", "employees": null},
    {"name": "Migros Verteilzentrum Suhr AG", "city": "Suhr", "country": "CH", "employees": 1400},
    {"name": "Kuka AG", "city": "Augsburg", "country": "DE", "employees": null}
  ],
  "amounts": [
    {"value": 42000000, "currency": "CHF", "what": "series B"},
    {"value": 11500000, "currency": "CHF", "what": "series A, 2023"},
    {"value": 250000000, "currency": "CHF", "what": "valuation after the round"},
    {"value": 8, "currency": null, "what": "robots at the first customer"},
    {"value": 300, "currency": null, "what": "robots planned for 2027"}
  ]
}""",
    system="You are an extraction service. Keep the keys in English.",
)

EXAMPLES: Final = (EXPLANATION, CODE, EMAIL, EXTRACTION)
