-- One voyage a file. Times are Unix seconds, for people; no lease or order depends on them.
CREATE TABLE voyage (
  one             INTEGER PRIMARY KEY CHECK (one = 1),
  id              TEXT NOT NULL,
  name            TEXT NOT NULL,
  state           TEXT NOT NULL CHECK (state IN
                    ('preparing', 'running', 'paused', 'verifying', 'complete', 'failed', 'sunk')),
  provider        TEXT NOT NULL,
  digest          TEXT NOT NULL,          -- of plan and repository
  repo            TEXT NOT NULL,          -- as the user named it, '' = a new one
  root            TEXT NOT NULL,          -- the commit the voyage branch started from
  agent_cmd       TEXT,
  model           TEXT,                   -- of the agents whose task names none
  max_turns       INTEGER,                -- likewise
  spec            TEXT NOT NULL,
  verify_script   BLOB NOT NULL,
  verify_timeout  REAL NOT NULL,
  setup           TEXT,
  prompt          TEXT,
  created         REAL NOT NULL,
  epoch           INTEGER NOT NULL DEFAULT 0,   -- + 1 at each captain's start
  generation      INTEGER NOT NULL DEFAULT 0,   -- + 1 at each channel
  last_token      INTEGER NOT NULL DEFAULT 0,   -- fencing tokens only grow
  verify_ok       INTEGER,
  verify_code     INTEGER,
  verify_clean    INTEGER,
  verify_commit   TEXT,
  verify_tail     TEXT,
  note            TEXT,
  place           TEXT NOT NULL DEFAULT '',     -- which drydock, or which URL and organisation
  replace_lost    INTEGER NOT NULL DEFAULT 0,   -- whether ships that are lost are replaced
  replacements    INTEGER NOT NULL DEFAULT 0,   -- how many were begun
  mesh            TEXT NOT NULL DEFAULT 'none'  -- what the ships join: none, tailscale
) STRICT;

CREATE TABLE tasks (
  id        TEXT PRIMARY KEY,
  position  INTEGER NOT NULL,             -- numeric ids in order, then the others
  subject   TEXT NOT NULL,
  raw       TEXT NOT NULL,                -- the plan's JSON
  agent     TEXT NOT NULL,
  pin       TEXT,                         -- the only ship that may take it
  priority  INTEGER NOT NULL,             -- tasks on the longest chain it starts
  blockers  INTEGER NOT NULL,             -- tasks it still waits for
  status    TEXT NOT NULL CHECK (status IN ('pending', 'in_progress', 'completed', 'failed')),
  held_by   TEXT,                         -- why a pending task cannot run
  token     INTEGER,                      -- of the attempt that holds it
  ship      TEXT,                         -- that holds it, or that landed it
  attempts  INTEGER NOT NULL DEFAULT 0,
  failures  INTEGER NOT NULL DEFAULT 0,
  commit_id TEXT,                         -- what landed
  reason    TEXT                          -- of the last failure
) STRICT;
CREATE INDEX ready ON tasks (priority DESC, position)
  WHERE status = 'pending' AND blockers = 0 AND held_by IS NULL;

CREATE TABLE edges (
  task   TEXT NOT NULL REFERENCES tasks (id),
  waits  TEXT NOT NULL REFERENCES tasks (id),
  PRIMARY KEY (task, waits)
) STRICT, WITHOUT ROWID;
CREATE INDEX waiting ON edges (waits);

CREATE TABLE attempts (
  token        INTEGER PRIMARY KEY,
  task         TEXT NOT NULL REFERENCES tasks (id),
  number       INTEGER NOT NULL,
  ship         TEXT NOT NULL,
  state        TEXT NOT NULL CHECK (state IN
                 ('claimed', 'running', 'offered', 'landed', 'failed', 'conflict', 'lost', 'late', 'sunk',
                  'waited', 'denied')),
  base         TEXT,                      -- commit the work started from
  work         TEXT,                      -- commit that holds what it left in the files
  session      TEXT,                      -- of the agent, if it has such
  fresh        INTEGER NOT NULL DEFAULT 0,-- whether that session is not to be gone on with
  reason       TEXT,
  exit_code    INTEGER,
  started      REAL NOT NULL,
  ended        REAL,
  seconds      REAL,                      -- as the ship measured
  model        TEXT,                      -- that worked, as the agent says
  tokens_in    INTEGER,                   -- all that was read, cached or not
  tokens_out   INTEGER,
  tokens_cached  INTEGER,                 -- of tokens_in, what came from the cache
  cost_nano    INTEGER,                   -- nano-dollars (1e-9 $) of what has a known price
  cost_mark    TEXT,                      -- api or subscription
  usage        TEXT,                      -- JSON: tokens and cost by model; null: its price is not known
  evidence     TEXT                       -- JSON: commit, check, exit code, seconds, tail
) STRICT;
CREATE INDEX attempts_of ON attempts (task, number);

CREATE TABLE intents (
  token  INTEGER PRIMARY KEY REFERENCES attempts (token),
  task   TEXT NOT NULL,
  ref    TEXT NOT NULL,
  old    TEXT NOT NULL,
  new    TEXT NOT NULL,
  state  TEXT NOT NULL CHECK (state IN ('open', 'done', 'void'))
) STRICT;

CREATE TABLE ships (
  id             TEXT PRIMARY KEY,
  position       INTEGER NOT NULL,
  sprite         TEXT NOT NULL,
  state          TEXT NOT NULL CHECK (state IN
                   ('provisioning', 'bootstrapping', 'idle', 'working', 'asleep', 'lost', 'failed', 'gone')),
  reason         TEXT,
  head           TEXT,                    -- newest commit known to be there
  journal        TEXT,                    -- which numbering the cursor counts in
  cursor         INTEGER NOT NULL DEFAULT 0,
  replaced_by    TEXT,                    -- the ship that sails in its place
  way            TEXT,                    -- JSON: how a host is reached by ssh; NULL = it is a sprite
  awake_seconds  REAL NOT NULL DEFAULT 0
) STRICT;

CREATE TABLE proposals (
  id           INTEGER PRIMARY KEY,
  token        INTEGER NOT NULL REFERENCES attempts (token),
  subject      TEXT NOT NULL,
  description  TEXT NOT NULL,
  blocked_by   TEXT NOT NULL,             -- JSON list of ids
  state        TEXT NOT NULL CHECK (state IN ('open', 'accepted', 'refused'))
) STRICT;

CREATE TABLE events (
  n     INTEGER PRIMARY KEY AUTOINCREMENT,
  at    REAL NOT NULL,
  kind  TEXT NOT NULL,
  ship  TEXT,
  task  TEXT,
  text  TEXT NOT NULL
) STRICT;
PRAGMA user_version = 3;
