"""The Claude API through the official SDK. Nothing else imports `anthropic`."""

from worker.provider.provider import Exchange, Provider

__all__ = ["Exchange", "Provider"]
