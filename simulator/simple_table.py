"""The collections that are only data, one entry each. `simple.py` answers them."""

from simulator.simple import Simple

ACCOUNT_WIDE = {"privileges": {"permissions": ["invoke"]}}
CATCH_ALL = {"actions": {"suppress": False}}
NEVER = {"version": "a{n}.b", "updated_at": "~", "updated_by": "@users", "created_at": "~",
         "created_by": "@users"}  # fmt: skip

SIMPLE: tuple[Simple, ...] = (
    Simple("/priorities", "priorities", {
        "type": "priority", "name": "P{n}", "description": "", "order": "#", "color": "a8171c",
    }, 5, gate="priorities", gate_status=404),
    Simple("/business_services", "business_services", {
        "type": "business_service", "name": "Geschäft {n}", "description": None, "team": "@teams",
        "point_of_contact": "owner{n}@{sub}.example",
    }, 30, "business_service"),
    Simple("/maintenance_windows", "maintenance_windows", {
        "type": "maintenance_window", "sequence_number": "#", "start_time": "~", "end_time": "~",
        "description": "Wartung {n}", "created_by": "@users", "services": ["@services"], "teams": [],
    }, 4, "maintenance_window"),
    Simple("/tags", "tags", {"type": "tag", "label": "étiquette-{n}"}, 6, "tag"),
    Simple("/vendors", "vendors", {
        "type": "vendor", "name": "Vendor {n}", "website_url": "https://vendor{n}.example",
        "logo_url": None, "thumbnail_url": None, "description": "Sends events",
        "integration_guide_url": None,
    }, 140, "vendor"),
    Simple("/extension_schemas", "extension_schemas", {
        "type": "extension_schema", "label": "Webhook {n}", "key": "hook_{n}", "description": "",
        "icon_url": None, "logo_url": None, "guide_url": None, "send_types": ["trigger", "resolve"],
    }, 3, "extension_schema"),
    Simple("/extensions", "extensions", {
        "type": "extension", "name": "Extension {n}", "temporarily_disabled": False,
        "endpoint_url": "https://hooks.example/in/{secret}", "extension_objects": ["@services"],
        "extension_schema": {"id": "PSCHEMA", "type": "extension_schema_reference",
                             "summary": "Webhook", "self": None, "html_url": None},
        "config": {"access_token": "{secret}", "restrict": "any", "nested": {"key": "{secret}"}},
    }, 3, "extension"),
    Simple("/addons", "addons", {
        "type": "full_page_addon", "name": "Add-on {n}", "src": "https://addons.example/{n}",
    }, 2, "addon"),
    Simple("/webhook_subscriptions", "webhook_subscriptions", {
        "type": "webhook_subscription", "active": True, "description": "Hook {n}",
        "delivery_method": {
            "id": "PDM{n}", "type": "http_delivery_method", "secret": None,
            "temporarily_disabled": False, "url": "https://hooks.example/{secret}",
            "custom_headers": [{"name": "X-Auth", "value": "<redacted>"}],
        },
        "events": ["incident.triggered", "incident.resolved"], "filter": {"type": "account_reference"},
    }, 3, "webhook_subscription"),
    Simple("/rulesets", "rulesets", {
        "type": "global", "name": "Ruleset {n}", "routing_keys": ["R{secret}"], "created_at": "~",
        "creator": "@users", "updated_at": "~", "updater": "@users", "team": "@teams",
    }, 2, "ruleset"),
    Simple("/event_orchestrations", "orchestrations", {
        "name": "Orchestration {n}", "description": "", "team": "@teams", "routes": "#", **NEVER,
        "integrations": [{"id": "int-{n}", "label": "Default",
                          "parameters": {"routing_key": "R{secret}", "type": "global"}}],
    }, 3, "orchestration"),
    *(
        Simple(f"/event_orchestrations/{{id}}/{part}", "orchestration_path", {
            "type": part, "parent": {"id": "{parent}", "type": "event_orchestration_reference"},
            "sets": [{"id": "start", "rules": []}], "catch_all": CATCH_ALL, **NEVER,
        }, 1, paging="one", bare=True)
        for part in ("router", "global", "unrouted")
    ),
    Simple("/event_orchestrations/{id}/integrations", "integrations", {
        "id": "int-{n}", "label": "Default",
        "parameters": {"routing_key": "R{secret}", "type": "global"},
    }, 1, paging="none", bare=True),
    Simple("/incident_workflows", "incident_workflows", {
        "type": "incident_workflow", "name": "Workflow {n}", "description": "", "created_at": "~",
        "is_enabled": True, "team": None,
    }, 4, "incident_workflow"),
    Simple("/incident_workflows/actions", "actions", {
        "type": "action", "name": "Action {n}", "domain_name": "pagerduty.com", "version": 1,
        "package_name": "incident", "function_name": "f{n}", "description": "", "inputs": [],
        "action_type": "action", "tags": [], "created_at": "~",
    }, 60, "action", "cursor"),
    Simple("/incident_workflows/triggers", "triggers", {
        "type": "workflow_trigger", "trigger_type": "manual", "trigger_type_name": "Manual",
        "workflow": {"id": "PWF{n}", "type": "workflow_reference", "name": "Workflow {n}"},
        "services": [], "is_subscribed_to_all_services": True,
        "permissions": {"restricted": False, "team_id": None},
    }, 3, "trigger", "cursor"),
    Simple("/automation_actions/actions", "actions", {
        "type": "action", "name": "Automation {n}", "description": "", "action_type": "script",
        "action_classification": "diagnostic", "runner": "PRUNNER{n}", "creation_time": "~",
        "modify_time": "~", "services": [], "teams": [], "privileges": {"permissions": ["invoke"]},
        "action_data_reference": {"script": "echo {n}", "invocation_command": "/bin/sh"},
    }, 3, "action", "cursor", extra=ACCOUNT_WIDE),
    Simple("/automation_actions/runners", "runners", {
        "type": "runner", "name": "Runner {n}", "description": "", "runner_type": "sidecar",
        "status": "Configured", "creation_time": "~", "last_seen": "~", "teams": [],
        "runbook_base_uri": None, "privileges": {"permissions": ["invoke"]},
    }, 2, "runner", "cursor", extra=ACCOUNT_WIDE),
    Simple("/licenses", "licenses", {
        "type": "license", "name": "Business {n}", "description": "", "current_value": "#",
        "allocations_available": None, "valid_roles": ["owner", "admin", "user"],
        "role_group": "FullUser",
    }, 2, paging="none"),
    Simple("/license_allocations", "license_allocations", {
        "user": "@users", "allocated_at": "~", "license": {
            "id": "PLIC1", "type": "license", "name": "Business", "description": "",
            "valid_roles": ["owner", "admin", "user"], "role_group": "FullUser",
            "summary": "Business", "self": None, "html_url": None},
    }, 40, bare=True),
    Simple("/status_dashboards", "status_dashboards", {
        "id": "PSD{n}", "url_slug": "dashboard-{n}", "name": "Dashboard {n}",
    }, 2, "status_dashboard", "none", bare=True, extra={"limit": 100, "next_cursor": None}),
    Simple("/standards", "standards", {
        "id": "01STD{n}", "active": True, "name": "Standard {n}", "description": "",
        "type": "has_technical_service_description", "resource_type": "technical_service",
        "exclusions": [], "inclusions": [],
    }, 9, paging="none", bare=True),
    Simple("/session_configurations", "session_configurations", {
        "type": "web", "idle_session_ttl": 3_600, "absolute_session_ttl": 86_400,
    }, 1, paging="none", bare=True),
    Simple("/ip_allow_lists", "ip_allow_lists", {
        "id": "ALLOW{n}", "type": "ip_allow_list", "state": "enabled",
        "cidr_entries": [{"cidr": "192.0.2.0/24", "description": "Büro"}],
    }, 1, "ip_allow_list", "none", bare=True),
    Simple("/incidents/types", "incident_types", {
        "id": "PTYPE{n}", "type": "incident_type", "name": "type_{n}", "display_name": "Typ {n}",
        "description": "", "enabled": True, "created_at": "~", "updated_at": "~",
        "parent": {"id": "PTYPE1", "type": "incident_type_reference"},
    }, 3, paging="none", bare=True),
    Simple("/incidents/custom_fields", "fields", {
        "type": "field", "name": "log_path", "display_name": "Log path", "description": "",
        "data_type": "string", "field_type": "single_value", "default_value": None,
        "created_at": "~", "updated_at": "~",
    }, 1, "field", "none"),
    Simple("/change_events", "change_events", {
        "type": "change_event", "timestamp": "~", "source": "build-{n}", "summary": "Deploy №{n}",
        "services": ["@services"], "integration": None, "links": [],
        "custom_details": {"routing_key": "R{secret}", "build": "#"},
    }, 130, "change_event", utc_only=True),
    Simple("/services/{id}/change_events", "change_events", {
        "type": "change_event", "timestamp": "~", "source": "build-{n}", "summary": "Deploy №{n}",
        "services": [{"id": "{parent}", "type": "service_reference"}], "integration": None,
        "links": [], "custom_details": {},
    }, 2, utc_only=True),
    Simple("/notifications", "notifications", {
        "id": "PNOTE{n}", "type": "sms_notification", "started_at": "~", "user": "@users",
        "address": "+44 5551{n}", "status": "success",
    }, 130, bounds=True, bare=True),
    Simple("/alert_grouping_settings", "alert_grouping_settings", {
        "id": "PAGS{n}", "name": "Grouping {n}", "description": "", "type": "time",
        "config": {"timeout": 300}, "services": [], "created_at": "~", "updated_at": "~",
    }, 2, paging="none", bare=True, extra={"after": None, "before": None, "limit": 25}),
    Simple("/users/{id}/oncall_handoff_notification_rules", "oncall_handoff_notification_rules", {
        "id": "PHANDOFF{n}", "handoff_type": "both", "notify_advance_in_minutes": 0,
        "contact_method": {"id": "PCM{n}", "type": "email_contact_method_reference",
                           "summary": "Work", "self": None, "html_url": None},
    }, 1, paging="none", bare=True),
    Simple("/users/{id}/sessions", "user_sessions", {
        "id": "PSESSION{n}", "type": "browser", "user_id": "{parent}", "created_at": "~",
        "summary": "Mozilla/5.0",
    }, 2, paging="none", bare=True),
    Simple("/incidents/{id}/past_incidents", "past_incidents", {
        "incident": {"id": "QPAST{n}", "title": "Earlier {n}", "created_at": "~"}, "score": 12.5,
    }, 2, paging="none", gate="past_incidents", bare=True, extra={"total": 2, "limit": 5}),
)  # fmt: skip
