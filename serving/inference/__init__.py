"""The Open Inference Protocol, for clients that were written for other servers.

Only the server imports this: the messages have the names that those clients define too, and no process
can hold both.
"""
