"""The gateway: LiteLLM, and in front of it what decides who may ask what, and behind it what was used.

main         the ASGI application that uvicorn runs
middleware   the way of a request: open door or not, whose key, what may pass, on to LiteLLM
passage      its stay inside LiteLLM, watched from outside
auth         whose key is it?
guard        what a caller may not write into a request
powers       which models a key may use
pace         requests and tokens a minute, for the keys that have a limit
gate         whether a budget refuses a request, and how much is left of it
gatekeeper   looks at what the tick wrote, and counts what went through since
gate_prices  what an event costs, by the rules of the views
gate_words   what people and their agents are told of a budget
network      from which network a request comes, under a name that tells no address
refusals     how a refusal is worded, in the dialect of the route
catalogue    which models there are, and whose
wire         what the provider really answered, as it passed over the wire
answers      a provider's answer read: its id, its usage, its text
usage        a provider's usage in our token kinds
counting     tokens counted by us, where the provider tells none; words: what they are counted of
asked        one request, and what is known of it
inflight     requests under way; each is closed once, as one event
settlement   what a request that is over comes to: its event
callback     LiteLLM's own account of a request
publisher    events to the topic
heartbeat    a sign of life in the registry
tuning       what of LiteLLM is left out or moved, for speed
"""
