"""The tables of the outbox and the statements on them, as text. The place where a statement is used says what it does.

Every statement finds its rows by an index, and reads no more rows than it returns or changes; the summary reads an
index instead of the table. No value is ever put into a statement, so S608 does not apply: they are constants. Nothing
is executed here. The outbox, ``recording`` and ``settling`` use this.
"""
# ruff: noqa: S608

from __future__ import annotations

from .reserve import NOTED

APPLICATION = 0x7265736F  # "reso", in the header of the file: this is an outbox and no other program's database
STEPS = (  # each leads to the next version; never change one that was released, add another
    (
        "CREATE TABLE meta (key TEXT PRIMARY KEY, value) WITHOUT ROWID",
        "INSERT INTO meta VALUES ('generation', 0), ('identity', ''), ('kind', '')",
        """CREATE TABLE deliveries (
            name TEXT NOT NULL, host TEXT NOT NULL, generation INTEGER NOT NULL, since REAL NOT NULL,
            due REAL NOT NULL, attempts INTEGER NOT NULL DEFAULT 0, parked INTEGER NOT NULL DEFAULT 0,
            unsure_until REAL NOT NULL DEFAULT 0, status INTEGER, reason TEXT NOT NULL DEFAULT '', begun INTEGER,
            PRIMARY KEY (name, host)) WITHOUT ROWID""",
        # It covers due() and the summary: SQLite adds the columns of the primary key to it.
        "CREATE INDEX deliveries_by_host ON deliveries (host, parked, due, since)",
        """CREATE TABLE hosts (
            host TEXT PRIMARY KEY, state TEXT NOT NULL, since REAL NOT NULL, failures INTEGER NOT NULL,
            retry_at REAL NOT NULL, reason TEXT NOT NULL, latest REAL NOT NULL) WITHOUT ROWID""",
        "CREATE TABLE names (name TEXT PRIMARY KEY, gone REAL, sha256 TEXT NOT NULL DEFAULT '') WITHOUT ROWID",
        "CREATE INDEX names_by_gone ON names (gone) WHERE gone IS NOT NULL",
        "CREATE TABLE members (host TEXT PRIMARY KEY, joining INTEGER) WITHOUT ROWID",
    ),
    # The nodes of a tree through which the change came. A node that gets it later sees whether a child leads back.
    ("ALTER TABLE deliveries ADD COLUMN way TEXT NOT NULL DEFAULT ''",),
)

COLUMNS = "host, name, generation, since, due, attempts, parked, unsure_until, status, reason"
OWN = "name = :name AND host = :host AND generation = :generation"

FIND = f"SELECT {COLUMNS} FROM deliveries WHERE name = ? AND host = ?"
FIND_ALL = f"SELECT {COLUMNS} FROM deliveries WHERE name = ?"
# In the order of names, to be read in pages: it skips what other hosts are owed. + prevents a sort, as below.
FIND_FROM = f"SELECT {COLUMNS} FROM deliveries WHERE name > ? AND +host = ? AND parked < 2 ORDER BY name LIMIT ?"
FIND_BEGUN = "SELECT host, since, unsure_until, begun FROM deliveries WHERE name = ?"
FIND_WAY = "SELECT way FROM deliveries WHERE name = ? AND host = ?"
PUT = f"INSERT OR REPLACE INTO deliveries ({COLUMNS}, begun, way) VALUES ({', '.join('?' * 12)})"
# An attempt that is found begun failed with its sender: it counts, so that the next one has a higher version.
BEGIN = """UPDATE deliveries SET begun = generation, attempts = attempts + (begun IS NOT NULL),
    unsure_until = CASE WHEN begun IS NULL THEN unsure_until ELSE MAX(unsure_until, :late) END
    WHERE name = :name AND host = :host"""
OWE = """INSERT INTO deliveries (host, name, generation, since, due) VALUES (?, ?, ?, ?, ?)
    ON CONFLICT (name, host) DO UPDATE SET generation = excluded.generation, due = excluded.due,
    attempts = 0, parked = 0, status = NULL, reason = '', way = ''"""
REMOVE = f"DELETE FROM deliveries WHERE {OWN}"
REMOVE_SURE = "DELETE FROM deliveries WHERE name = ? AND host = ? AND generation = ? AND unsure_until <= ?"
RELEASE = f"UPDATE deliveries SET due = :due WHERE {OWN}"
POSTPONE = "UPDATE deliveries SET due = ? WHERE name = ? AND host = ?"
CLEAR = "UPDATE deliveries SET begun = NULL WHERE name = :name AND host = :host AND begun = :generation"

# A time further ahead than LATEST allows was noted before the clock was set back: else it would not end for long.
UNSURE = "CASE WHEN unsure_until > :now + :latest + :set_back THEN :now + :latest ELSE unsure_until END"
FIRST_LOOK, SECOND_LOOK = f"{UNSURE} - :to_first", f"{UNSURE} - :to_second"
LOOK = f"CASE WHEN :now < {FIRST_LOOK} THEN {FIRST_LOOK} WHEN :now < {SECOND_LOOK} THEN {SECOND_LOOK} ELSE {UNSURE} END"
# Attempts stay: what is sent at the next look must not have a lower version than what the host has.
AGAIN = f"""UPDATE deliveries SET begun = NULL, due = {LOOK}, unsure_until = {UNSURE}, status = NULL, reason = :reason,
    parked = CASE WHEN :now < {FIRST_LOOK} THEN 0 ELSE :watched END WHERE {OWN}"""
FAIL = f"""UPDATE deliveries SET begun = NULL, attempts = attempts + 1, due = :due, parked = :parked,
    status = :status, reason = :reason, unsure_until = MAX(unsure_until, :unsure_until) WHERE {OWN}"""
DOUBT = """UPDATE deliveries SET unsure_until = MAX(unsure_until, :unsure_until),
    begun = CASE WHEN begun = :generation THEN NULL ELSE begun END WHERE name = :name AND host = :host"""

TARGET = "CASE WHEN reason = :converged THEN MAX(:now, unsure_until) ELSE :now END"
NUDGE = f"""UPDATE deliveries SET due = {TARGET} WHERE host = :host AND name IN (SELECT name FROM deliveries
    WHERE host = :host AND parked = 0 AND due > :now AND due > {TARGET} LIMIT :chunk)"""
UNPARK = """UPDATE deliveries SET due = :now, parked = 0 WHERE host = :host AND name IN
    (SELECT name FROM deliveries WHERE host = :host AND parked = 1 LIMIT :chunk)"""
UNPARK_OURS = """UPDATE deliveries SET due = :now, parked = 0 WHERE host = :host AND name IN
    (SELECT name FROM deliveries WHERE host = :host AND parked = 1 AND status IS NULL LIMIT :chunk)"""
UNPARK_STATUS = """UPDATE deliveries SET due = :now, parked = 0 WHERE host = :host AND name IN (SELECT name
    FROM deliveries WHERE host = :host AND parked = 1 AND status = :status ORDER BY due LIMIT :chunk)"""
PURGE = """DELETE FROM names WHERE name IN (SELECT name FROM names WHERE gone < :before
    AND NOT EXISTS (SELECT 1 FROM deliveries WHERE deliveries.name = names.name) LIMIT :chunk)"""

ENTOMB = "INSERT OR REPLACE INTO names (name, gone) VALUES (?, ?)"
EXHUME = "DELETE FROM names WHERE name = ? AND gone IS NOT NULL"
PRESENT = "INSERT OR REPLACE INTO names (name, gone, sha256) VALUES (?, NULL, ?)"
EXHUME_ALL = "DELETE FROM names WHERE gone > 0"
CORRECT = "UPDATE names SET sha256 = ? WHERE name = ? AND sha256 = ? AND gone IS NULL"
DIGEST = "SELECT sha256 FROM names WHERE name = ?"
GONE = "SELECT gone FROM names WHERE name = ?"
# + keeps SQLite from using an index on gone, whose rows would have to be sorted by name.
NAMES_FROM = "SELECT name FROM names WHERE name >= ? AND name < ? AND (+gone IS NOT NULL) = ? ORDER BY name LIMIT ?"
NAMES_AFTER = "SELECT name FROM names WHERE name > ? AND name < ? AND (+gone IS NOT NULL) = ? ORDER BY name LIMIT ?"

NOTE_HOST = (
    "INSERT OR REPLACE INTO hosts (host, state, since, failures, retry_at, reason, latest) VALUES (?, ?, ?, ?, ?, ?, ?)"
)
ASK = "UPDATE hosts SET retry_at = 0 WHERE host = ?"
HOSTS = "SELECT host, state, since, failures, retry_at, reason, latest FROM hosts"

GENERATION = f"SELECT value, (SELECT gone FROM names WHERE name = ?), {NOTED} FROM meta WHERE key = 'generation'"
SET_GENERATION = "UPDATE meta SET value = ? WHERE key = 'generation'"
ADOPT = "UPDATE meta SET value = ? WHERE key = ? AND value = ''"
NOTES = "SELECT key, value FROM meta WHERE key >= ? AND key < ?"
NOTE = "INSERT OR REPLACE INTO meta VALUES (?, ?)"
NOTE_ONCE = "INSERT OR IGNORE INTO meta VALUES (?, ?)"
STATE = "SELECT value, EXISTS (SELECT 1 FROM deliveries WHERE name > '') FROM meta WHERE key = 'generation'"
META = "SELECT value FROM meta WHERE key = ?"
MEMBERS = "SELECT host, joining FROM members"
ADMIT = "INSERT OR REPLACE INTO members VALUES (?, ?)"
EXPEL = "DELETE FROM members WHERE host = ?"
FORGET_STATE = "DELETE FROM hosts WHERE host = ?"
FORGET = """DELETE FROM deliveries WHERE host = :host AND name IN
    (SELECT name FROM deliveries WHERE host = :host LIMIT :chunk)"""
OWED_UNTIL = "SELECT COUNT(*) FROM deliveries WHERE host = ? AND parked <= ? AND generation <= ?"

DUE = "SELECT due, name FROM deliveries WHERE host = ? AND parked = ? AND due <= ? ORDER BY due LIMIT ?"
DUE_LATEST = DUE.replace("ORDER BY due", "ORDER BY due DESC")
BEYOND = "SELECT due, name FROM deliveries WHERE host = ? AND parked = ? AND due > ? ORDER BY due LIMIT ?"
FIRST = "SELECT due, name FROM deliveries WHERE host = ? AND parked = ? ORDER BY due LIMIT 1"
OWED = "SELECT COUNT(*) FROM deliveries WHERE host = ? AND parked <= ?"
SUMMARY = "SELECT host, COUNT(*), SUM(parked), MIN(since) FROM deliveries WHERE parked < 2 GROUP BY host ORDER BY host"
