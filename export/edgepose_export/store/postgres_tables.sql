-- The tables of a store in PostgreSQL 13 or newer. Run once, as the owner of the database:
--   edgepose-export store sql | psql --set ON_ERROR_STOP=1 poses
-- Then let logins write and read: CREATE ROLE store LOGIN PASSWORD '…'; GRANT edgepose_writer TO store;
CREATE SCHEMA edgepose;
CREATE ROLE edgepose_writer NOLOGIN;
CREATE ROLE edgepose_reader NOLOGIN;

CREATE TABLE edgepose.poses (
    device text NOT NULL, session text NOT NULL, camera text NOT NULL, epoch bigint NOT NULL, sequence bigint NOT NULL,
    captured_at timestamptz NOT NULL, received_at timestamptz NOT NULL, clock text NOT NULL, age_ms real NOT NULL,
    width integer NOT NULL, height integer NOT NULL, pixel_aspect real NOT NULL,
    tracks bigint[] NOT NULL, scores real[] NOT NULL,
    boxes real[] NOT NULL,      -- people x 4: left, top, width, height
    keypoints real[] NOT NULL,  -- people x 17 x 3: x, y, confidence
    PRIMARY KEY (device, session, camera, epoch, sequence, captured_at)
) PARTITION BY RANGE (captured_at);
CREATE INDEX ON edgepose.poses USING brin (captured_at);

CREATE TABLE edgepose.events (
    device text NOT NULL, id text NOT NULL, kind text NOT NULL, camera text NOT NULL, epoch bigint NOT NULL, sequence bigint NOT NULL,
    track bigint NOT NULL, at timestamptz NOT NULL, since timestamptz NOT NULL, received_at timestamptz NOT NULL, clock text NOT NULL,
    score real NOT NULL, width integer NOT NULL, height integer NOT NULL, box real[] NOT NULL, zone text, line text, direction text,
    evidence jsonb NOT NULL,
    PRIMARY KEY (device, id, at)
) PARTITION BY RANGE (at);
CREATE INDEX ON edgepose.events USING brin (at);

-- One row a person.
CREATE VIEW edgepose.people AS
SELECT device, session, camera, epoch, sequence, captured_at, number AS person, tracks[number] AS track, scores[number] AS score,
    boxes[number][1] AS x, boxes[number][2] AS y, boxes[number][3] AS width, boxes[number][4] AS height,
    keypoints[number:number][1:17][1:3] AS keypoints
FROM edgepose.poses, LATERAL generate_subscripts(scores, 1) AS number;

-- Partitions are made and dropped by their owner, so that the role of the store needs no right to create or drop anything.
CREATE FUNCTION edgepose.make_day(day date) RETURNS void LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog AS $$
DECLARE parent text;
BEGIN
    FOREACH parent IN ARRAY ARRAY['poses', 'events'] LOOP
        IF to_regclass(format('edgepose.%I', parent || to_char(day, '_YYYYMMDD'))) IS NULL THEN
            EXECUTE format('CREATE TABLE edgepose.%I PARTITION OF edgepose.%I FOR VALUES FROM (%L) TO (%L)', parent || to_char(day, '_YYYYMMDD'),
                parent, day::timestamp AT TIME ZONE 'UTC', (day + 1)::timestamp AT TIME ZONE 'UTC');
        END IF;
    END LOOP;
END $$;

CREATE FUNCTION edgepose.drop_days(before date) RETURNS integer LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog AS $$
DECLARE part text; dropped integer := 0;
BEGIN
    FOR part IN SELECT relname FROM pg_class JOIN pg_inherits ON inhrelid = pg_class.oid
        WHERE inhparent IN ('edgepose.poses'::regclass, 'edgepose.events'::regclass) AND relname ~ '^(poses|events)_\d{8}$' LOOP
        IF to_date(right(part, 8), 'YYYYMMDD') < before THEN
            EXECUTE format('DROP TABLE edgepose.%I', part);
            dropped := dropped + 1;
        END IF;
    END LOOP;
    RETURN dropped;
END $$;

REVOKE ALL ON FUNCTION edgepose.make_day(date), edgepose.drop_days(date) FROM PUBLIC;
GRANT USAGE ON SCHEMA edgepose TO edgepose_writer, edgepose_reader;
GRANT INSERT, SELECT ON edgepose.poses, edgepose.events TO edgepose_writer;
GRANT EXECUTE ON FUNCTION edgepose.make_day(date), edgepose.drop_days(date) TO edgepose_writer;
GRANT SELECT ON edgepose.poses, edgepose.events, edgepose.people TO edgepose_reader;
