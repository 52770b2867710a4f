"""The paths of the sync protocol, shared by server and client. docs/reference/visit.md describes each.

All are POST: every call carries a body, changes nothing that repeating it would change again, and no cache may
answer it.
"""

PREFIX = "/sync/v1"
HELLO = f"{PREFIX}/hello"
RECONCILE = f"{PREFIX}/reconcile"
INQUIRE = f"{PREFIX}/inquire"
CONSISTENCY = f"{PREFIX}/consistency"
GET_RECORDS = f"{PREFIX}/records/get"
PUT_RECORDS = f"{PREFIX}/records/put"
HOLDINGS = f"{PREFIX}/holdings"
NEWS = f"{PREFIX}/news"
WANTS = f"{PREFIX}/wants"
MISSING = f"{PREFIX}/missing"
GET_CHUNKS = f"{PREFIX}/chunks/get"
PUT_CHUNKS = f"{PREFIX}/chunks/put"

MEDIA_TYPE = "application/vnd.relay.sync"
PROBLEM_TYPE = "application/problem+json"
