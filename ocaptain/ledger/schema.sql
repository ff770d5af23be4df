-- Format 4. One voyage a file. Times are Unix seconds, for people; no lease or order depends on them.
CREATE TABLE voyage (
  one             INTEGER PRIMARY KEY CHECK (one = 1),
  id              TEXT NOT NULL,
  name            TEXT NOT NULL,
  state           TEXT NOT NULL CHECK (state IN
                    ('preparing', 'running', 'paused', 'verifying', 'complete', 'failed', 'sinking', 'sunk')),
  paused_reason   TEXT CHECK (paused_reason IN ('user', 'budget', 'limit', 'ours', 'provider')),
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
  verify_stage    TEXT,                   -- what verify_code is of: setup, verify
  note            TEXT,
  place           TEXT NOT NULL DEFAULT '',     -- which drydock, or which URL and organisation
  replace_lost    INTEGER NOT NULL DEFAULT 0,   -- whether ships that are lost are replaced
  replacements    INTEGER NOT NULL DEFAULT 0,   -- how many were begun
  mesh            TEXT NOT NULL DEFAULT 'none', -- what the ships join: none, tailscale
  options         TEXT NOT NULL DEFAULT '{}',   -- JSON: the options of the voyage
  home            TEXT NOT NULL DEFAULT 'here', -- where its captain lives: here, or a ship
  ticket          TEXT,                         -- with which another machine may take it over
  opening         TEXT NOT NULL DEFAULT ''      -- a nonce of the captain that commands
) STRICT;

CREATE TABLE tasks (
  id        TEXT PRIMARY KEY,
  position  INTEGER NOT NULL,             -- numeric ids in order, then the others
  subject   TEXT NOT NULL,
  raw       TEXT NOT NULL,                -- the plan's JSON
  agent     TEXT NOT NULL,
  wish      TEXT,                         -- the ship that the plan prefers
  pin       TEXT,                         -- the only ship that may take it
  approved  INTEGER NOT NULL DEFAULT 1,   -- 0: it waits for approval
  priority  INTEGER NOT NULL,             -- tasks on the longest chain it starts
  blockers  INTEGER NOT NULL,             -- tasks it still waits for
  status    TEXT NOT NULL CHECK (status IN ('pending', 'in_progress', 'completed', 'failed')),
  held_by   TEXT,                         -- why a pending task cannot run
  token     INTEGER,                      -- of the attempt that holds it
  ship      TEXT,                         -- that holds it, or that landed it
  attempts  INTEGER NOT NULL DEFAULT 0,   -- that were made, with any result
  tries     INTEGER NOT NULL DEFAULT 0,   -- of these, those that failed and count
  commit_id TEXT,                         -- what landed
  reason    TEXT,                         -- of the last failure
  retried   INTEGER                       -- the last token when it was put back: what was before does not count
) STRICT;
CREATE INDEX ready ON tasks (priority DESC, position)
  WHERE status = 'pending' AND blockers = 0 AND held_by IS NULL;
CREATE INDEX ready_pinned ON tasks (pin, priority DESC, position)
  WHERE pin IS NOT NULL AND status = 'pending' AND blockers = 0 AND held_by IS NULL;
CREATE INDEX ready_wished ON tasks (wish, priority DESC, position)
  WHERE wish IS NOT NULL AND status = 'pending' AND blockers = 0 AND held_by IS NULL;
CREATE INDEX unapproved ON tasks (position) WHERE approved = 0;
CREATE INDEX tasks_by_status ON tasks (status);
CREATE INDEX holding ON tasks (token) WHERE status = 'in_progress';
CREATE INDEX held_by_ship ON tasks (ship) WHERE status = 'in_progress';

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
  opening      TEXT NOT NULL DEFAULT '',  -- of the captain that handed it out: part of its command's id
  state        TEXT NOT NULL CHECK (state IN
                 ('claimed', 'running', 'offered', 'landed', 'failed', 'conflict', 'lost', 'late', 'sunk',
                  'waited', 'denied')),
  base         TEXT,                      -- commit the work started from
  work         TEXT,                      -- commit that holds what it left in the files
  session      TEXT,                      -- of the agent, if it has such
  fresh        INTEGER NOT NULL DEFAULT 0,-- whether that session must not be resumed
  reason       TEXT,
  exit_code    INTEGER,
  started      REAL NOT NULL,
  ended        REAL,
  seconds      REAL,                      -- as the ship measured
  model        TEXT,                      -- as the agent reports
  tokens_in    INTEGER,                   -- all that was read, cached or not
  tokens_out   INTEGER,
  tokens_cached  INTEGER,                 -- of tokens_in, what came from the cache
  cost_nano    INTEGER,                   -- nano-dollars (1e-9 $) of what has a known price
  cost_mark    TEXT,                      -- api or subscription
  usage        TEXT,                      -- JSON: tokens and cost by model; null: its price is not known
  log_skipped  INTEGER NOT NULL DEFAULT 0,-- bytes of its log that its ship had no room for
  evidence     TEXT,                      -- JSON: commit, check, exit code, seconds, tail
  live         TEXT                       -- JSON: its files while it runs (ocaptain.captain.decide.live); NULL = none
) STRICT;
CREATE INDEX attempts_of ON attempts (task, number);
CREATE INDEX attempts_by_ship ON attempts (ship, task);

CREATE TABLE intents (
  token  INTEGER PRIMARY KEY REFERENCES attempts (token),
  task   TEXT NOT NULL,
  ref    TEXT NOT NULL,
  old    TEXT NOT NULL,
  new    TEXT NOT NULL,
  state  TEXT NOT NULL CHECK (state IN ('open', 'done', 'void'))
) STRICT;
CREATE INDEX open_intents ON intents (token) WHERE state = 'open';

-- What is on the voyage branch, in its order.
CREATE TABLE landings (
  n          INTEGER PRIMARY KEY AUTOINCREMENT,
  kind       TEXT NOT NULL CHECK (kind IN ('task', 'local')),
  task       TEXT REFERENCES tasks (id),
  token      INTEGER REFERENCES attempts (token),
  commit_id  TEXT NOT NULL,
  at         REAL NOT NULL
) STRICT;

-- Chains of the user's own commits in workspace/ that have landed, or are landing.
CREATE TABLE local_landings (
  n        INTEGER PRIMARY KEY,           -- refs/ocaptain/local/<n> holds the newest commit as the user made it
  ref      TEXT NOT NULL,
  old      TEXT NOT NULL,
  new      TEXT NOT NULL,
  commits  TEXT NOT NULL,                 -- JSON: [the user's commit, the commit that lands of it], oldest first
  state    TEXT NOT NULL CHECK (state IN ('open', 'done', 'void'))
) STRICT;

-- What of a ship's work is kept under refs/ocaptain/, beside what landed.
CREATE TABLE saved_refs (
  ref        TEXT PRIMARY KEY,
  ship       TEXT NOT NULL,
  token      INTEGER REFERENCES attempts (token),
  name       TEXT,                        -- the agent's own name for it
  commit_id  TEXT NOT NULL,
  bytes      INTEGER,
  at         REAL NOT NULL
) STRICT;

-- The plan's files, unchanged.
CREATE TABLE plan_files (
  path  TEXT PRIMARY KEY,
  data  BLOB NOT NULL
) STRICT;

-- Where the result was published: a branch pushed, a pull request.
CREATE TABLE publications (
  n          INTEGER PRIMARY KEY AUTOINCREMENT,
  kind       TEXT NOT NULL,
  url        TEXT NOT NULL,
  commit_id  TEXT NOT NULL,
  state      TEXT NOT NULL,
  at         REAL NOT NULL
) STRICT;

-- What all attempts used together, kept by the triggers below: no question has to add them up.
CREATE TABLE spending (
  one            INTEGER PRIMARY KEY CHECK (one = 1),
  attempts       INTEGER NOT NULL DEFAULT 0,   -- that told of any
  tokens_in      INTEGER NOT NULL DEFAULT 0,
  tokens_out     INTEGER NOT NULL DEFAULT 0,
  tokens_cached  INTEGER NOT NULL DEFAULT 0,
  cost_nano      INTEGER NOT NULL DEFAULT 0,
  unknown        INTEGER NOT NULL DEFAULT 0,   -- that used something without a known price
  api            INTEGER NOT NULL DEFAULT 0,   -- by cost_mark
  subscription   INTEGER NOT NULL DEFAULT 0
) STRICT;
INSERT INTO spending (one) VALUES (1);
CREATE TRIGGER spent AFTER UPDATE OF tokens_in, tokens_out, tokens_cached, cost_nano, cost_mark, usage ON attempts
BEGIN
  UPDATE spending SET
    attempts = attempts + (new.tokens_in IS NOT NULL) - (old.tokens_in IS NOT NULL),
    tokens_in = tokens_in + coalesce(new.tokens_in, 0) - coalesce(old.tokens_in, 0),
    tokens_out = tokens_out + coalesce(new.tokens_out, 0) - coalesce(old.tokens_out, 0),
    tokens_cached = tokens_cached + coalesce(new.tokens_cached, 0) - coalesce(old.tokens_cached, 0),
    cost_nano = cost_nano + coalesce(new.cost_nano, 0) - coalesce(old.cost_nano, 0),
    unknown = unknown
      + (EXISTS (SELECT 1 FROM json_each(coalesce(new.usage, '[]')) WHERE json_extract(value, '$.cost_nano') IS NULL))
      - (EXISTS (SELECT 1 FROM json_each(coalesce(old.usage, '[]')) WHERE json_extract(value, '$.cost_nano') IS NULL)),
    api = api + (coalesce(new.cost_mark, '') = 'api') - (coalesce(old.cost_mark, '') = 'api'),
    subscription = subscription
      + (coalesce(new.cost_mark, '') = 'subscription') - (coalesce(old.cost_mark, '') = 'subscription');
END;

CREATE TABLE task_counts (
  status  TEXT PRIMARY KEY,
  n       INTEGER NOT NULL
) STRICT;
INSERT INTO task_counts VALUES ('pending', 0), ('in_progress', 0), ('completed', 0), ('failed', 0);
CREATE TRIGGER task_added AFTER INSERT ON tasks
BEGIN
  UPDATE task_counts SET n = n + 1 WHERE status = new.status;
END;
CREATE TRIGGER task_moved AFTER UPDATE OF status ON tasks WHEN new.status != old.status
BEGIN
  UPDATE task_counts SET n = n - 1 WHERE status = old.status;
  UPDATE task_counts SET n = n + 1 WHERE status = new.status;
END;

CREATE TABLE ships (
  id             TEXT PRIMARY KEY,
  position       INTEGER NOT NULL,
  sprite         TEXT NOT NULL,
  role           TEXT NOT NULL DEFAULT 'work' CHECK (role IN ('work', 'verify', 'captain')),
  state          TEXT NOT NULL CHECK (state IN
                   ('provisioning', 'bootstrapping', 'idle', 'working', 'asleep', 'held', 'draining',
                    'lost', 'failed', 'gone')),
  reason         TEXT,
  head           TEXT,                    -- newest commit known to be there
  journal        TEXT,                    -- which numbering the cursor counts in
  cursors        TEXT NOT NULL DEFAULT '{}',   -- JSON: by class of records, up to where they are done with
  replaced_by    TEXT,                    -- the ship that sails in its place
  way            TEXT,                    -- JSON: how a host is reached by ssh; NULL = it is a sprite
  awake_seconds  REAL NOT NULL DEFAULT 0,
  meter          TEXT,                    -- JSON: the run of the VM that is being counted
  telemetry      TEXT                     -- JSON: numbering, number and end in bytes of its last call that is known
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
PRAGMA user_version = 4;
