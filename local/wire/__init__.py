"""The simulated provider's side of the wire: one module per route, each pure: a request and a turn in, bytes out.

turn         what one answer will be: how many tokens of which kind, on which terms, and what goes wrong
directive    how a request dictates it, and what is drawn where it does not
tokenizer    how long a prompt is
completions  OpenAI chat completions and embeddings; OpenRouter and Moonshot in the same shape
responses    OpenAI Responses
messages     Anthropic Messages
models       the lists of models
"""
