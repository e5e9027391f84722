"""The Claude API through the official SDK. Nothing else imports `anthropic`."""

from worker.provider.provider import Exchange, Provider
from worker.provider.readings import read_limits

__all__ = ["Exchange", "Provider", "read_limits"]
