-- The first schema. INT, BYTES and SERIAL stand for the type names of the two databases.
CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL);

CREATE TABLE worker (
  id SERIAL,
  platform TEXT NOT NULL,
  external_id TEXT,               -- the platform's id or an invitation's number; removed by `forget`
  key TEXT NOT NULL UNIQUE,       -- keyed hash of the two, by which the worker is found again
  public_id TEXT NOT NULL,        -- what exports show
  state TEXT NOT NULL DEFAULT 'new',
  reason TEXT NOT NULL DEFAULT '',
  created_ms INT NOT NULL,
  consent_version TEXT,
  consent_ms INT,
  practice_ms INT,                -- when it was passed
  practice_tries INT NOT NULL DEFAULT 0,
  controls INT NOT NULL DEFAULT 0,
  controls_right INT NOT NULL DEFAULT 0,
  last_ms INT
);

CREATE TABLE consent (id SERIAL, worker INT NOT NULL, version TEXT NOT NULL, agreed INT NOT NULL, ms INT NOT NULL);

CREATE TABLE visit (
  id TEXT PRIMARY KEY,
  worker INT NOT NULL REFERENCES worker,
  platform TEXT NOT NULL,
  external TEXT,                  -- the platform's parameters as JSON; removed by `forget`
  assignment_hash TEXT NOT NULL,  -- keyed hashes for exports
  hit_hash TEXT NOT NULL,
  started_ms INT NOT NULL,
  done_ms INT
);
CREATE INDEX visit_of_worker ON visit (worker);

CREATE TABLE task (
  id TEXT PRIMARY KEY,
  seq INT NOT NULL UNIQUE,        -- the order of the plan
  class_id TEXT NOT NULL,
  grp TEXT NOT NULL,
  place INT NOT NULL,
  practice INT NOT NULL,
  overlap INT NOT NULL,
  taken INT NOT NULL DEFAULT 0,   -- assignments that count towards the overlap
  body TEXT NOT NULL
);
CREATE INDEX task_open ON task (taken, seq) WHERE taken < overlap AND practice = 0;
CREATE INDEX task_of_class ON task (class_id, seq);

CREATE TABLE planned (path TEXT PRIMARY KEY, task TEXT NOT NULL);

CREATE TABLE assignment (
  id TEXT PRIMARY KEY,
  task TEXT NOT NULL REFERENCES task,
  worker INT NOT NULL REFERENCES worker,
  visit TEXT NOT NULL REFERENCES visit,
  state TEXT NOT NULL,            -- leased, expired, returned, submitted
  counts INT NOT NULL,            -- 1 if it counts towards the overlap
  excluded INT NOT NULL DEFAULT 0,
  tab TEXT NOT NULL DEFAULT '',
  leased_ms INT NOT NULL,
  expires_ms INT NOT NULL,
  submitted_ms INT,
  num_batches INT NOT NULL DEFAULT 0,
  submitted_batches INT,          -- of them there when it was submitted; later ones change nothing
  num_events INT NOT NULL DEFAULT 0,
  num_samples INT NOT NULL DEFAULT 0,
  num_bytes INT NOT NULL DEFAULT 0,
  num_pictures INT NOT NULL DEFAULT 0,
  duration_ms INT,
  summary TEXT,                   -- JSON, computed from the log (summary.py)
  UNIQUE (task, worker)
);
CREATE INDEX assignment_expiry ON assignment (expires_ms) WHERE state = 'leased';
CREATE INDEX assignment_of_worker ON assignment (worker, state);
CREATE INDEX assignment_of_visit ON assignment (visit, state);
CREATE INDEX assignment_done ON assignment (submitted_ms) WHERE state = 'submitted';

CREATE TABLE batch (
  seq SERIAL,
  assignment TEXT NOT NULL REFERENCES assignment,
  tab TEXT NOT NULL,
  number INT NOT NULL,
  received_ms INT NOT NULL,
  sent_ms INT NOT NULL,           -- the annotator's clock
  sha256 BYTES NOT NULL,
  body BYTES NOT NULL,            -- zlib
  UNIQUE (assignment, tab, number)
);

-- Another body under a number that was taken, and bodies that were refused.
CREATE TABLE set_aside (
  id SERIAL, assignment TEXT NOT NULL, tab TEXT NOT NULL, number INT NOT NULL, received_ms INT NOT NULL,
  reason TEXT NOT NULL, body BYTES NOT NULL
);
CREATE INDEX set_aside_of ON set_aside (assignment);

CREATE TABLE broken (path TEXT NOT NULL, reason TEXT NOT NULL, ms INT NOT NULL, times INT NOT NULL, PRIMARY KEY (path, reason));

CREATE TABLE audit (id SERIAL, ms INT NOT NULL, action TEXT NOT NULL, detail TEXT NOT NULL);
