"""The vocabulary of the generated accounts: names, titles and texts, some of them not in ASCII."""

FIRST_NAMES = (
    "Ada", "Björn", "Chloé", "Dmitri", "Eilís", "Fatima", "Gökçe", "Hanna", "Ines", "Jiří",
    "Kaori", "Łukasz", "Mei", "Nikolaos", "Oluwaseun", "Priya", "Quentin", "Rosa", "Søren", "Thu",
    "Ursula", "Vanja", "Wambui", "Ximena", "Yusuf", "Zoë", "田中", "Мария", "أمينة", "O’Neill",
)  # fmt: skip
LAST_NAMES = (
    "Abara", "Brandão", "Çelik", "Dvořák", "Eriksen", "Fernández", "García", "Haugen", "Ito",
    "Jansen", "Kowalczyk", "Lindqvist", "Müller", "Nakamura", "Okafor", "Papadopoulou", "Quispe",
    "Rossi", "Šimić", "Tran", "Ueda", "Van der Berg", "Wójcik", "Xu", "Yılmaz", "Zając",
)  # fmt: skip
JOB_TITLES = ("Site Reliability Engineer", "Ingénieure d’exploitation", "Platform Lead", None,
              "Director of Engineering", "Database Administrator", "", "SRE – Nacht")  # fmt: skip
SYSTEMS = (
    "checkout", "search", "ledger", "identity", "média", "billing", "gateway", "inventory",
    "notifications", "warehouse", "Zahlung", "mobile-api", "recommendation", "auth", "cdn", "推荐",
)  # fmt: skip
LAYERS = ("API", "Worker", "Database", "Cache", "Queue", "Frontend", "Batch", "Proxy")
TEAM_NAMES = ("Platform", "Payments", "Data & ML", "Réseau", "Core Services", "Mobile", "Security",
              "Kundendienst", "Release", "Observability", "基盤", "Growth")  # fmt: skip
SYMPTOMS = (
    "p99 latency above 2 s", "error rate 7.5 % (threshold 1 %)", "disk /var is 93% full",
    "replication lag 340 s", "certificate expires in 3 days", "queue depth above 50 000",
    "health check failing ☠", "out of memory: killed process 4711 (java)", "5xx burst 🔥",
    "Verbindung zur Datenbank verloren", "リクエストがタイムアウトしました", "job \"nightly\" missed its run",
    "connection pool exhausted", "DNS resolution failures", "unusual sign-in <b>pattern</b>",
)  # fmt: skip
NOTES = (
    "Rolled back to the previous release, watching.", "Asked the vendor; ticket 88-1204.",
    "Cause: expired credential. Follow-up in the review.", "Redémarré le nœud, tout est vert ✅",
    "Customer (jane.roe@example.net) reports it is gone.", "原因を調査中です。", "Duplicate, see above.",
)  # fmt: skip
SENTENCES = (
    "The probe ran from three regions and failed in two of them.",
    "Last deploy was 14 minutes before the first failure; the diff touches connection handling.",
    "Runbook: check saturation of the primary, then fail over by hand if lag keeps growing.",
    "Customers in Łódź and São Paulo see time-outs; the status page was not updated yet.",
    "Stack: TimeoutError at pool.acquire (pool.py:214) <- session.begin <- handler.post.",
    "The same alert fired twice this week and cleared by itself within ten minutes.",
)
ZONES = ("UTC", "America/New_York", "Europe/Berlin", "Asia/Tokyo", "America/Lima", "Asia/Kolkata")
COLORS = ("green", "purple", "red", "teal", "dark-slate-grey", "brown", "cayenne")
ROLES = ("user", "limited_user", "admin", "user", "observer", "restricted_access", "user",
         "read_only_user", "read_only_limited_user", "limited_user")  # fmt: skip
