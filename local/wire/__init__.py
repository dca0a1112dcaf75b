"""The simulated provider's side of the wire: one module per route, each pure: a request and a turn in, bytes out.

turn         what one answer will be: how many tokens of which kind, and what goes wrong
completions  OpenAI chat completions and embeddings; OpenRouter and Moonshot in the same shape
responses    OpenAI Responses
messages     Anthropic Messages
"""
