-- A second wall between orgs: whoever reads for a caller acts as conductor_api, which sees the rows of one org only,
-- the one that `conductor.org_id` names for the transaction. The owner of the tables, who writes, is not bound by it.

DO $$
BEGIN
    -- Roles belong to the whole server, so another database's migration may be making the same one now.
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'conductor_api') THEN
        BEGIN
            CREATE ROLE conductor_api NOLOGIN NOBYPASSRLS;
        EXCEPTION WHEN duplicate_object OR unique_violation THEN
            NULL;
        END;
    END IF;
    -- Whoever makes a role may give it away, but does not have it by that.
    BEGIN
        EXECUTE format('GRANT conductor_api TO %I', current_user);
    EXCEPTION
        WHEN unique_violation THEN
            NULL;
        WHEN insufficient_privilege THEN
            IF NOT pg_has_role(current_user, 'conductor_api', 'MEMBER') THEN
                RAISE;
            END IF;
    END;
    EXECUTE format('GRANT USAGE ON SCHEMA %I TO conductor_api', current_schema());
END
$$;

DO $$
DECLARE
    name TEXT;
BEGIN
    FOREACH name IN ARRAY ARRAY[
        'api_keys', 'approvals', 'audit_heads', 'audit_logs', 'idempotency_keys', 'leads', 'model_calls',
        'org_spending', 'orgs', 'queued_messages', 'sessions', 'tool_executions'
    ] LOOP
        EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', name);
        EXECUTE format(
            'CREATE POLICY conductor_org ON %I FOR SELECT TO conductor_api'
            ' USING (org_id = current_setting(''conductor.org_id'', true))',
            name
        );
        EXECUTE format('GRANT SELECT ON %I TO conductor_api', name);
    END LOOP;
END
$$;

-- Events have no org of their own. Written as one look at the session's row for each event: as a join it could become
-- a list of all sessions of the org.
ALTER TABLE session_events ENABLE ROW LEVEL SECURITY;
CREATE POLICY conductor_org ON session_events FOR SELECT TO conductor_api USING (
    (SELECT s.org_id FROM sessions s WHERE s.session_id = session_events.session_id)
    = current_setting('conductor.org_id', true)
);
GRANT SELECT ON session_events TO conductor_api;
