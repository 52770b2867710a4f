"""The one table of limits: every size, count and time that comes from outside is bounded by a line here.

Sizes are bytes, times are seconds. A decoder or a handler checks its bound before it allocates.
"""

from __future__ import annotations

KIB = 1024
MIB = 1024 * KIB
GIB = 1024 * MIB

# Records
MAX_RECORD = 60_000
"""Bytes of any signed record: it has to fit a C2SP entry bundle, whose lengths are 16 bits."""
MAX_CERTIFICATE = 8 * KIB
MAX_CBOR_DEPTH = 8
MAX_NAME = 255
"""Bytes of a file name in UTF-8."""
MAX_REASON = 1_000
"""Characters of the reason of a correction or a revocation."""
MAX_TALLY_VALUE = 10_000_000
MAX_PAIRS = 100
"""Candidates (or pairs) in one tally."""
MAX_TALLY = 64 * KIB
"""Bytes of a tally file as typed."""

# Notices
MAX_FORMS = 64
MAX_RECEIVERS = 16
MAX_SEALING_KEY = 2 * KIB
MAX_URL = 512
MAX_TEXT = 200
"""Characters of a name of a village, a district, an island."""

# Packages
MAX_FILES = 32
MAX_FILE = 64 * MIB
SEALING_OVERHEAD = 4 * KIB
"""More than what sealing adds to a file."""
MAX_CHUNKS_PER_PACKAGE = 1_024
"""Chunk hashes take 32 bytes each of the statement, which must stay under `MAX_RECORD`."""

# Log
MAX_PROOF_PATH = 63
MAX_CHECKPOINT = 16 * KIB
MAX_COSIGNATURES = 32
MAX_VERIFIER_KEY = 4_096
"""Characters of a verifier key; an Ed25519 one takes about 100, one of another type is refused by its name."""
MAX_WITNESSES = 32
"""Independent witnesses of an election."""

# Enrolment and register
MAX_ENROLMENT = 192 * MIB
"""Bytes of an enrolment: a receiver's holds the register, whose notices in base 64 take 1.4 times what its CSV does."""
MAX_PUBLISHED_NOTICES = 16 * MIB
"""Bytes of the notices that a log publishes: all but the register."""
MAX_LEDGER = 1 * GIB
"""Bytes of the election office's ledger, as it was kept at first."""
MAX_REGISTER = 128 * MIB
MAX_REGISTER_PARTS = 4_096
MAX_STATIONS_PER_OPERATOR = 64
MAX_REQUEST = 16 * KIB
MAX_CACHED_CERTIFICATES = 4_096

# Reconciliation
MAX_KIND = 15
"""The highest kind of record that reconciliation carries; four are in use."""
MIN_RECONCILE_MESSAGE = 512
MAX_RECONCILE_MESSAGE = 256 * KIB
"""Bytes of one message, either way: 8 000 ids, a tenth of a second on a poor Wi-Fi link."""
MAX_RECONCILE_RANGES = 32_768
"""Ranges in one message."""
MAX_RECONCILE_ROUNDS = 4_096
MAX_RECONCILE_DRY_ROUNDS = 64
"""Round trips in a row that find no difference; an honest peer needs three or four."""
MAX_RECONCILE_OPEN = 16_384
"""Ranges that an initiator keeps to be asked about, some 2 MB; what lies behind them is for the next time."""
MAX_RECONCILE_FOUND = 8_192
"""Differences that one reconciliation collects, some 1.5 MB; the next one goes on from there."""

# Visit
MAX_MESSAGE = 256 * KIB
MAX_GREETING = 64 * KIB
MAX_GREETED = 32 * KIB
"""Bytes of the message of reconciliation that comes back with a greeting."""
GREETED_STATEMENTS = 128
"""Statements after which a visitor asks with its greeting; it asks after the others next."""
GREETED_RECORDS = 16 * KIB
"""Bytes of records, receipts mostly, that come with a receiver's greeting."""
GREETED_IDS = 64
"""Records that a visitor lists with its greeting where it holds no more: then the answer brings the first that it
lacks."""
GREETED_REPLY_SECONDS = 0.2
"""How long a receiver's greeting waits for its store: less than `KNOCK_SECONDS`, or the visitor looks elsewhere."""
INQUIRED_RECORDS = 64 * KIB
"""The same with its reply to an inquiry. Of what comes in one message nothing is kept where the link is cut in it."""
MAX_NUMBER = 16
MAX_PAIR = 32
"""Bytes of a message that is one number, or two."""
MAX_IDS = 4_096
"""Ids in one message."""
RECORDS_BATCH = 1 * MIB
"""Bytes of records that a node puts into one message, unless a single one is larger."""
MAX_RECORDS_MESSAGE = RECORDS_BATCH + 64 * KIB
"""Bytes of a message that carries records: a batch, and the heads of its records."""
DEFLATED_FROM = 1 * KIB
"""Bytes of a message that carries records from which on it is deflated."""
DEFLATED_AT_ONCE = 64 * KIB
"""Bytes that are deflated before others get their turn."""
MAX_WANTS = 1_024
MAX_TOLD_HOLDINGS = 8 * MAX_WANTS
"""Objects of which a visit keeps what the peer said that it holds, before they are wanted."""
WANTS_PAGE = 64
"""Objects asked about at a time."""
MAX_LISTED = 4 * WANTS_PAGE
"""Objects whose room a store counts first, since it listed them before as what it wants."""
MAX_REFUSALS = 16_384
"""Records that a node remembers to have refused, and that its neighbours had no quota for: what sixteen signers have
under way at the most (`QUOTA_STATEMENTS`), some 4 MB each."""
MAX_TO_DELIVER = 65_536
"""Packages that one visit brings to a receiver; what waits besides is for the next one."""
MAX_WRONG_CHUNKS = 256
"""Chunks that match no statement, in one visit, after which the peer is left."""
MAX_CLAIMS = 65_536
CLAIM_SECONDS = 2.0
"""A claim without progress for so long is nobody's."""
CLAIM_REST_SECONDS = 20.0
"""Who brought nothing claims anew after so long."""
FIRST_RECORDS_PAGE = 32
RECORDS_PAGE = 512
"""Records moved at a time: at first, and at most. The first ones are some eighty kilobytes of statements."""
MAX_SURPLUS = RECORDS_PAGE // 2
"""Receipts over a receiver's quota with which an exchange of records goes on: whose key was stolen keeps nobody else's
out, and costs no visit more than a page."""
GREETED_GIVEN = 12 * KIB
"""Bytes of records that come with a neighbour's greeting: what TCP sends at once."""
MAX_GREETED_GIVEN = 16 * KIB
"""Bytes of these with what is held of their objects. Where it is more, as by a single large one, they are asked for."""
FIRST_STATEMENTS = 4
LAST_STATEMENTS = 64
"""Of the statements that go one way in a visit to a neighbour: so many at least are judged before any content goes that
way, and so many at most while the first content is on its way already. The link does not wait while they are judged."""
SOON_SECONDS = 1.0
"""Content begins while more statements than the last ones are on their way, where those take no longer than that by
the pace of what came. After the first four that is three times what they take: a round trip is most of their time."""
INQUIRY_PAGE = 2_048
MAX_INQUIRY_WAIT = 5.0
MAX_NEWS_WAIT = 25.0
"""How long a call for news stays open: less than `IDLE_SECONDS`."""
RECEIPT_PATIENCE = 3.0
"""How long a visitor waits at a receiver for receipts of what it just brought."""
STREAMS = 2
"""Parallel streams of chunks in each direction of a visit. Where BBR is, one would do; of several, some carry while
another one waits for a lost frame."""
TORN_FROM = 1 * KIB
"""Bytes of a chunk that are kept when a contact ends in the middle of it, so that only the rest comes again."""
MAX_TORN_OF_ONE = 2 * STREAMS
"""Such beginnings that are kept of one neighbour: of its visit, and of a visit to it."""
MAX_TORN = 4 * MIB
"""Bytes of all of them."""
LOT_SECONDS = 0.02
LOT_BYTES = 32 * KIB
"""Content is read in lots: what comes in so many seconds, or so many bytes where that is sooner."""
LOT_READ_SECONDS = 0.001
"""How long a lot is read; one that is gathered sooner is not waited for."""
LOT_FROM = 128 * KIB
"""Bytes of a call that are read as they come first: TCP finds out by their acknowledgements how fast the link is."""
MAX_EMPTY_LOTS = 8
"""Lots in a row that bring nothing, after which what comes is read as it comes."""
STREAM_AT_RECEIVER_SECONDS = 0.25
"""A second stream to a receiver begins so late, while there is something left to bring."""
BATCH_SECONDS = 0.4
"""What a stream has asked for and not got is at most what it moves in so long."""
FIRST_BATCH = 128 * KIB
MAX_BATCH = 320 * KIB
FAST_BATCH_SECONDS = 0.15
MAX_FAST_BATCH = 1 * MIB
"""Where a link is so fast that `MAX_BATCH` moves in less, it is this: what a taker does between two chunks, and a round
trip where a call ends, would leave it idle."""
LOW_SUPPLY = 64
"""Chunks that are left of a page of what is to be moved when the next one is listed."""
COMMIT_SECONDS = 0.3
"""How often chunks are committed while more come."""
WHOLE_SECONDS = 0.1
"""The same where an object has all its chunks: a package counts when it is whole."""
RECORDS_SECONDS = 20.0
"""A visit to a neighbour compares and exchanges records for so long; then content has its turn, and the next visit, at
once, goes on from there."""
LOOK_SECONDS = 15.0
"""How often a visit whose content moves looks for new records meanwhile."""
CONTENT_SECONDS = 20.0
"""A visit exchanges content for so long, and from each look for new records on; then it ends, and the next one, at
once, begins with records again."""
MAX_CONTENT_SECONDS = 40.0
"""It ends so late all the same: people are told of a neighbour for `CONTACT_SECONDS` after a visit's end."""

# Contact
MAX_CHUNK = 256 * KIB
"""Bytes of the content of one frame."""
MAX_CALLS_PER_PEER = 16
MAX_PROBLEM = 16 * KIB + MAX_RECORD * 4 // 3 + 4
"""An error's words, and the record that proves it, in base 64."""
HANDSHAKE_SECONDS = 5.0
CONNECT_SECONDS = 3.0
STALL_SECONDS = 5.0
"""A call in which no byte moves for so long is over. (A dead link shows in 3 s, by TCP: see `relay.net.sockets`.)"""

RECEIVER_SECONDS = 30.0
"""How long a receiver may take to say that it has chunks durably."""
SLOWEST = 16 * KIB
"""Bytes a second of an answer; a visit to who is slower ends, and goes on at another time."""
CHUNKS_SECONDS = 60.0
"""Any call is over after so long, and what its answer takes at `SLOWEST`: a call asks for no more chunks after
`CALL_SECONDS`."""

# Node
MAX_BACKUP_LIST = 64 * MIB
"""What a backup says of itself: a line for each small file."""
BACKUP_REREAD = 64
"""Objects that lie in a backup already and are read again whenever it is renewed."""
MAX_CONFIG = 64 * KIB
MAX_PEERS = 256
DEFAULT_RETENTION = 90 * 86_400
"""Seconds for which a device keeps the content of its own packages after their receipts."""
QUOTA_BYTES = 1 * GIB
"""Bytes of undelivered bundles that a node carries for one signer."""
QUOTA_STATEMENTS = 1_000
QUOTA_STATEMENTS_AT_RECEIVER = 1_280
"""Statements of one signer that a receiver logs altogether: five forms of each of the 64 stations that a certificate
may name, each with three corrections."""
QUOTA_BYTES_AT_RECEIVER = 16 * GIB
"""Bytes of their bundles: 12 MiB of photographs each."""

CHAIN_SECONDS = 0.05
"""How often a capture asks whether another one is done with the device's chain."""

# Contacts
SILENCE_SECONDS = 2.0
"""How long the higher node id waits to be visited before it visits."""
NEWS_SECONDS = 0.25
"""News gathers for so long before it is carried on."""
IDLE_SECONDS = 30.0
CONTACT_SECONDS = 90
"""A neighbour that neither visited nor was visited for so long is no longer in contact."""
RECEIPT_SECONDS = 2.0
"""How often a receiver is asked again while receipts are awaited."""
HURRY_SECONDS = 10.0
"""A visit that nobody answered yet is begun anew when the neighbour is announced again, at most this often."""
LINK_HURRY_SECONDS = 2.0
"""The same for a change of the link, or for one that came back: TCP would wait longer, and over a slow link a greeting
takes less."""
KNOCK_SECONDS = 0.25
"""While a visit is not answered, the neighbour's other addresses are tried as well, each so long after the last."""
MAX_KNOCKS = 16
"""Such tries at once: anybody can announce hundreds of nodes at addresses that lead nowhere."""
AWAY_SECONDS = 10.0
"""Who was neither seen nor heard of for so long, and is seen, came back: what failed before may work now."""
FIRST_RETRY_SECONDS = 0.5
MAX_RETRY_SECONDS = 15.0
MAX_RETRY_SECONDS_CONFIGURED = 1.0
"""An address in config.toml may come within reach at any moment: a refused connection costs next to nothing."""
MAX_NEIGHBOURS = 256
MAX_ARRIVALS = 8_192
"""Visitors of whom a node remembers when they were last here; to a receiver, all the gateways of a country."""
MEMORY_FAILURES = 3
"""After so many failures a neighbour that is only remembered is left alone until the link changes."""
NOTE_SECONDS = 2.0
"""How long after its first call it is noted on the disk who came."""
DECLINED_SECONDS = 600.0
"""What a neighbour has no quota for is offered again after so long, though nothing tells that it would take it now."""
SETTLED_SECONDS = 300.0
"""With a neighbour that has no news, and none for whom there is any, content is looked at again after so long."""
REFRESH_SECONDS = 0.5
"""How often the daemon looks whether a command changed the store."""
GREETED_SECONDS = 0.1
"""How long a greeting may wait for such a look, by which what is handed over as a boat comes in goes with it; and how
long for the records that come with it. Both are less than `KNOCK_SECONDS`, or the visitor looks elsewhere."""
RETENTION_SECONDS = 60.0
JUMP_SECONDS = 3_600.0
"""A clock that gains more than this between two looks was set."""
DEAD_LINK_SECONDS = 3.0
UNSENT = 128 * KIB
"""Bytes that the kernel holds of a connection beyond those on their way."""
BACKLOG = 1_024

# Receiver
LOG_BATCH = 1_024
"""Entries in one commit of the log."""
REPORT_BATCH = 128
"""Entries that a report reads and judges between two breaths of the daemon."""
LOG_BATCH_SECONDS = 0.1
"""From one batch of entries to the next. Each costs a commit, and an answer to everybody who waits for a receipt: of
batches in close succession, most are waited for in vain."""
LOG_IDLE_SECONDS = 5.0
"""How often the sequencer looks by itself for what is complete."""
LEAD_SECONDS = 1.0
"""How often a receiver that does not lead asks whether it should."""
PUBLISH_SECONDS = 2.0
"""How long a visitor's question waits for what is committed to be published: less than the visitor waits for a byte."""
PUBLISH_PAUSE_SECONDS = 0.25
"""How often it is looked for meanwhile."""
NOTICES_LOOK_SECONDS = 60.0
"""How often a receiver looks whether the published notices are those that it wrote."""
SHELF_PATIENCE_SECONDS = 3.0
"""How long a receiver that begins to sequence waits for what is published."""
METRICS_SECONDS = 5.0
"""How long a node's store may take for its metrics; Prometheus waits for ten seconds."""
READY_SECONDS = 1.0
"""For so long it stands what was said of a receiver's readiness; and how long its store may take to answer."""
READY_WRITE_SECONDS = 5.0
"""How often a receiver that is asked whether it is ready writes something, to see that it can."""
MAX_UNPUBLISHED = 64 * MIB
"""Bytes of tiles that wait in memory while they cannot be published; of more, the store is asked again."""
LEADER_SILENT_SECONDS = 6.0
"""A receiver that leads and says nothing to the database for so long leads no more."""

# Store
BUSY_SECONDS = 10.0
"""How long a process waits for another one's transaction."""
MOVED_AT_ONCE = 8
"""Objects that are copied at a time when a store is moved."""
DATABASE_SECONDS = 10.0
"""How long PostgreSQL may take to take a connection, and to answer."""
TRANSACTION_IDLE_SECONDS = 5.0
"""A receiver that is silent in the middle of a transaction for so long has lost it."""
LOCK_SECONDS = 8.0
"""How long a transaction waits for another one's lock: longer than one that hangs may hold it."""
LOG_LOCK_SECONDS = 1.0
"""How long who begins to sequence waits for the state of the log. Whoever sequenced before was silent for longer than a
transaction may be: what still has the lock hangs."""
DATABASE_CONNECTIONS = 8
"""Of one receiver to PostgreSQL, besides the one on which it watches."""
BUCKET_SECONDS = 20.0
"""How long the S3 service may take for one call."""
BUCKET_RETRY_SECONDS = 10.0
"""After so long a call that fails is not tried again."""
BUNDLES_PAGE = 512
"""Bundles without receipt that are listed at a time."""
COUNTED_AT_ONCE = 10_000
"""Bundles of a shared store that are counted whenever somebody asks; the sums of more are `COUNTS_SECONDS` old."""
COUNTS_SECONDS = 10.0
MAX_STAGED = 64 * MIB
"""Bytes of chunks that a receiver on a bucket keeps in memory until their visit commits."""
MAX_CACHED_OBJECTS = 256
"""Files of a bucket that a receiver keeps a copy of, to hand them out."""
LEFT_OVER_SECONDS = 3_600.0
"""A copy that has not been whole for so long is nobody's any more."""
MAX_LAYOUTS = 8
"""Lists of chunk hashes that are kept for one object: honest devices agree on one."""
DISK_RESERVE = 64 * MIB
"""Free bytes that content of others leaves alone."""
STATEMENTS_RESERVE = DISK_RESERVE // 2
"""Free bytes that statements of others leave alone as well, and receipts for what is not here: a stolen key can sign
many, each of `MAX_RECORD`."""
UNCLAIMED_RECEIPTS = 32_768
"""Receipts of one receiver that a node keeps for statements that it does not hold: for two forms of all the stations of
a region, which a boat carries home. With proofs of the greatest length they take `STATEMENTS_MARGIN`."""
DRAFTS_RESERVE = 12 * MIB
"""Free bytes that a device's own drafts leave alone at the least. Less than what others leave alone, who keep nobody
from handing his own packages in."""
SIGNING_ROOM = 6 * MIB
"""Free bytes that drafts leave alone besides what signing the largest of them copies."""
BALLAST = 8 * MIB
"""Bytes that a store gives up on a full disk, for what frees space or rules: twice what SQLite's write-ahead log takes
before it is used anew."""
BALLAST_CLEARANCE = 16 * MIB
"""Free bytes beside which it is taken on: more than what a device's own packages leave alone."""
BALLAST_RETRY_SECONDS = 1_800.0
"""After a ballast that could not be written, the next is tried so late: what fails may be the card, and each try writes
all of it."""
LEAST_ROOM = MIB
"""Free bytes that a catalogue needs to be opened."""
STATEMENTS_MARGIN = 64 * MIB
"""How far beyond its limit a store goes on taking statements of others."""

# Discovery
MAX_INTERFACES = 32
MAX_SIGHTINGS = 256
MAX_ADDRESSES = 8
MAX_REMEMBERED = 16
"""Neighbours of earlier contacts that are tried when a link comes: those met last."""
RESOLVE_SECONDS = 2.0
INTERFACE_POLL_SECONDS = 1.0
"""How often interfaces are looked at where the kernel does not tell of changes."""
INTERFACE_CHECK_SECONDS = 10.0
"""How often they are looked at all the same."""
MAX_SIGHTING_TEXT = 512
"""Bytes of the TXT record of a node; an honest one takes about 90."""
MAX_RESOLVING = 16
"""Nodes asked for what their announcement left out, at a time on one interface."""
ANNOUNCE_SECONDS = 2.0
"""How often a node says that it is here: it cannot tell when somebody comes into reach."""
GREETING_SECONDS = 0.5
"""How often, at most, a node says that it is here because somebody came into reach."""
SIGHTING_SECONDS = 1.0
"""An announcement that says nothing new is told again after so long, as a sign of life."""

# Hostile peers
MAX_RESIDENT = 256 * MIB
"""What a daemon's memory stays under, whatever its peers do: measured by tests/hostile."""
MAX_RESIDENT_AT_RECEIVER = 768 * MIB
"""The same of a receiver's: 2 048 connections, and 128 MiB of bodies, which take several times that while they are
judged."""
MAX_HANDSHAKES = 64
"""Connections whose TLS handshake is under way; of more, any one is dropped."""
MAX_CONNECTIONS = 512
"""Connections that a node keeps open; for more, the longest idle one makes room."""
MAX_HANDSHAKES_AT_RECEIVER = 256
MAX_CONNECTIONS_AT_RECEIVER = 2_048
"""A thousand gateways at once, each with those that it is using; about 130 KiB of memory each."""
MAX_CONNECTIONS_PER_NODE = 24
"""A visit needs eight; a contact that broke may have left as many."""
MAX_CONNECTIONS_PER_ADDRESS = 64
"""Of one public address to the public site: there may be many behind it."""
IDLE_CONNECTION_SECONDS = 45.0
"""A connection without a call for so long is closed; visitors give theirs up after 30 s."""
LINGERING_SECONDS = 0.5
"""How long a visitor who was answered before the end of its call may go on talking, so that it hears the answer."""
LARGE_CALLS = 2
"""Calls that may take some memory or time, at once in one visit."""
MAX_LARGE_CALLS_PER_PEER = 3
"""The same of one visitor."""
MAX_BODIES = 12 * MIB
"""Bytes of bodies and answers that calls hold, of all visitors together: see `relay.net.bodies`."""
MAX_BODIES_AT_RECEIVER = 128 * MIB
"""The same at a receiver, to which a thousand boats may bring what they carry at once."""
READ_AHEAD = 64 * KIB
"""Bytes of a body that are read before anybody asks for them; twice as many where they come fast."""
MAX_UNSENT = 64 * KIB
"""Bytes of an answer that wait on one connection, here and in TLS each; the rest of it waits until some were read."""
RECORDS_AT_WORK = 8
"""Batches of records that are judged, or gathered, at a time."""
MAX_CHUNKS_CALL = 128 * MIB
"""Bytes of frames in one call, either way."""
CALL_SECONDS = 10.0
"""A call draws no more chunks after so long: then comes the next one. Between two of them a stream rests for a round
trip; and what a call brought is answered for at its end."""
JUDGED_AT_ONCE = 64
"""Records that are judged before other visitors get their turn."""
TOLD_REFUSALS = 8
"""Refusals of one batch of records that are told one by one in the log."""
MAX_HEADS = 64
"""Signed heads of one log that wait for the proof that they are of one tree."""
PROOFS_PER_VISIT = 8
"""Heads about which a receiver is asked in one visit."""
MAX_ALARMS = 8
"""Alarms about one log that are told and kept, each with its evidence."""

# Plans and drills
MAX_PLAN = 1 * MIB
MAX_PLAN_PLACES = 500
"""Places, and boats, of one plan."""
MAX_PLAN_CALLS = 2_000
MAX_PLAN_PACKAGES = 2_000
MAX_DRAWS = 100_000
MAX_DRILL_RECORD = 64 * KIB
MAX_DRILL_STEPS = 512
MAX_DRILL_DIARY = 4 * MIB

# The operator's page
MAX_PHONES = 16
MAX_OFFERS = 4
MAX_PAIRING = 256 * KIB
MAX_PHONE_NAME = 60
"""Characters of what a phone's browser calls itself."""
PAIRING_SECONDS = 600
"""How long an offer on the screen stands."""
PAIRING_GUESSES = 5
PAIRING_GUESSES_SECONDS = 10.0
PAIRING_FIRST_WAIT_SECONDS = 1.0
PAIRING_MAX_WAIT_SECONDS = 60.0
PAIRING_SOURCES = 1_024
MAX_DRAFTS = 64
"""Drafts under way: one for each form that a device may return."""
MAX_SENT_DRAFTS = 1_024
MAX_PICTURES = 16
MAX_PICTURE = 32 * MIB
MAX_REMOVED = 64
"""Pictures that were taken out of a draft, remembered so that no phone brings them back."""
MAX_DRAFT = 64 * KIB
"""Bytes of what was typed into a draft."""
MAX_UPLOAD_BLOCK = 4 * MIB
"""Bytes of one request of an upload; the page sends a quarter of a megabyte."""
FORM_SECONDS = 10.0
"""How long a form may take to arrive."""
MAX_FORM = 64 * KIB
"""Bytes of one form that a browser posts, pictures aside."""
MAX_PAIRS_TYPED = 20
UPLOAD_STALL_SECONDS = 20.0
MAX_HANDED = 4_096
"""Objects and neighbours whose chunks are counted as they go."""
MAX_HANDOVERS = 256
"""Packages that neighbours took, remembered for the pages."""
HANDOVER_SECONDS = 2.0
REREAD_SECONDS = 600.0
"""Between two tries to read what could not be read: a disk that fails takes seconds to say so, again and again."""
PACKAGE_BYTES = 6 * MIB
"""A package as people have to reckon with: two photographs of a form."""

# The administrator's page
MIN_PASSWORD = 12
MAX_PASSWORD = 256
MAX_ADMIN_SESSIONS = 16
ADMIN_SESSION_SECONDS = 12 * 3_600
ADMIN_IDLE_SECONDS = 3_600
ADMIN_REPORT_SECONDS = 10.0
ADMIN_PATIENCE_SECONDS = 2.0
"""How long a page waits for a report that is being made; it goes on being made meanwhile."""
MAX_ADMIN_REPORT = 200_000
"""Entries of a log that the daemon keeps in mind for the page, somewhat less than a kilobyte each."""
ADMIN_ROWS = 100
"""Rows of one table of the page."""

# Reading a published log
SOURCE_STREAMS = 16
"""Connections to one web server."""
SOURCE_TRIES = 4
SOURCE_PATIENCE_SECONDS = 0.5
"""How long until a server that did not answer is asked again; doubles each time."""
SOURCE_STALL_SECONDS = 20.0
SOURCE_ANSWER_SECONDS = 30.0
"""How long until a web server's answer has begun."""
SOURCE_LEAST_RATE = 512
"""Bytes a second that a web server has to send of a file, once it stalled as long as it may: slower is not there."""
WITNESS_SECONDS = 10.0
"""How long an independent witness may take to cosign."""
WITNESS_PAUSE_SECONDS = 3.0
"""How long a receiver leaves its witnesses alone after it asked them."""
AUDIT_ROOM = 96 * MIB
"""Bytes of entries, and as many of receipts, that an audit holds before they are judged."""
AUDIT_READ_AHEAD = 32
"""Bundles that are read before their turn."""
AUDIT_USUAL_BUNDLE = MIB
"""How long a bundle is expected to be, until longer ones came."""
AUDIT_GROUP_BYTES = 8 * MIB
"""Bundles that are given to a process together are no more than this, and the last one."""
AUDIT_COMMIT = 64
"""Bundles of entries, or files, that are checked before an audit notes how far it is."""
AUDIT_RECEIPTS = 512
"""Receipts that an audit reads and judges together."""
AUDIT_RECEIPT = 16 * KIB
"""How long one may be there: its certificate is the longest part of it, its path takes two kilobytes at most."""
AUDIT_AHEAD = 6
"""Such batches that are under way at once."""
AUDIT_SIZES = 16_384
"""Objects that were checked lately, of which an audit remembers the size: many entries may name one."""
AUDIT_PATIENCE_SECONDS = 12 * 3_600
"""How long an entry may be in a log, as its auditor saw it, until its receipt and its objects must be published: twice
what the site of a country takes to catch up with its night."""
AUDIT_AGAIN_ENTRIES = 200_000
"""Of a log as long as this, and each time as many more, a site has that patience once more to be written again: half of
it is what they take, 26 ms of a processor each, for which the site has a quarter of the time."""
AUDIT_SIGHTINGS = 512
"""Sizes of a log that an audit remembers with the time when it first saw them, while files are not published."""
AUDIT_DOCUMENT = 1 * MIB
"""How long the document of a form, or a page of its history, may be in an audit: an honest one has a quarter of it."""
AUDIT_DOCUMENTS = 16
"""Such documents that an audit of results reads at once."""
AUDIT_STATIONS = 2_000_000
"""Polling stations that an audit takes from a site, where it has no register."""
AUDIT_REMARKS = 100
"""Gaps and forks that an audit tells of one by one."""

# The public site
SITE_MARKS = 600
"""Stations of one region whose marks are drawn one by one; of larger ones there are numbers only."""
SITE_ISLANDS = 600
"""Islands that the page of a region lists, or that of the whole; those of more are listed by its parts."""
SITE_ISLAND_PARTS = 5_000
"""Islands, each as far as one village goes, whose states are gathered for the map; of more the map shows those that the
page of the whole lists."""
SITE_NOTES = 500
"""Flagged forms that a region's page lists itself; larger ones lead to the pages of their parts."""
SITE_NEWEST = 40
"""Arrivals in the feed."""
SITE_BATCH = 64
"""Entries of the log that are brought to the site at a time; more when it lags far behind."""
SITE_LARGEST_BATCH = 512
SITE_BATCH_SECONDS = 5.0
"""What a batch of the site may take, as far as the one before tells: while it is written, readers find some of its
files, and not others; and the site gives way between batches."""
SITE_LEAST_BATCH = 16
"""However long these take: what many arrivals change would be written for each of them."""
SITE_CALLS = 48
"""Files of the site that are read or written at once."""
SITE_AGAIN_SECONDS = 90.0
"""How long after a receiver took the site over from another nothing can come of that one any more: longer than a call
to an S3 service with all its tries."""
SITE_TABLES = 16
"""Districts of a large election whose tables are written at a time."""
SITE_SHARE = 0.25
"""Of the time, what the site may take while much arrives: the intake comes first."""
SITE_RETRY_SECONDS = 2.0
"""After the place for the site's files, or the store, failed: until it is tried again."""
SITE_WHOLE_FORMS = 20_000
"""Forms of an election that is offered as one file; a larger one is offered by district."""
SITE_SETTLE_SECONDS = 60.0
"""How often the disk is asked to keep what was written of the site: what came since is brought again after a cut."""
SITE_SETTLE_SECONDS_ELSEWHERE = 5.0
"""The same in a bucket, which keeps all at once: how often it is noted where a follower goes on."""
MAX_SERVED_WHOLE = 64 * KIB
"""Bytes of a published file that is answered out of memory, to each of `MAX_CONNECTIONS` readers; larger ones are sent
from the disk."""
MAX_SERVED_COPIES = 256 * MIB
"""Bytes on the disk of compressed copies, and of what came from a bucket."""
MAX_SERVED_TAGS = 4_096
"""Large published files whose hash is remembered."""
MAX_SHELF_READS = 8
"""Files that are read from a bucket for the public at once."""
MAX_OBJECT_READS = 4
"""Contents of packages of which the same is true: they may be larger."""
MAX_RECORD_READS = 4
"""Statements and receipts that are read for the public at once: fewer than `DATABASE_CONNECTIONS`, which the intake
needs."""
MAX_PUBLIC_CALLS = MAX_CONNECTIONS * 3 // 4
"""Calls of the public that wait for a shared store at once; more are told to come again. The connections that are left
take those, and the balancer, who asks whether this receiver is ready: nobody may wait in all of them."""
PUBLIC_PATIENCE_SECONDS = 30.0
"""How long such a call may wait: one call to the bucket may take two thirds of it, and may have waited for others."""
SITE_DOCUMENTS = 2_048
"""Published documents that are kept in memory between arrivals."""
SITE_DOCUMENTS_BYTES = 32 * MIB
"""Bytes of those; in memory they take some five times that."""
SITE_STATEMENTS = 16
"""Statements of one form that one page shows. A form has one or two; a flood of them has pages."""
SITE_STATEMENTS_BYTES = 128 * KIB
"""Bytes of those as JSON; as a page for people about twice that."""
SITE_HISTORY = 50
"""Statements of a form that one page of its history lists, a line for each."""
SITE_LINKS = 100
"""Statements of a device that one page lists. A device has a few; a flood of them has pages."""
SITE_FLAGS = 50
"""Flags that the page of a form with a history tells itself, or that of a device with pages; all are there."""
SITE_NOTE_FLAGS = 6
"""Flags of one form that regions above it tell; of more they say how many, and lead to the form."""
SITE_FLAG_STATEMENTS = 4
"""Statements that such a flag names."""
MAX_SITE_DOCUMENT = 32 * MIB
MAX_MAP = 1 * MIB
MAX_MAP_PLACES = 2_000
