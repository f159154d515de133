"""Reads every incident of an account with PagerDuty's own client: `BASE_URL KEY TIMES`. Prints how many it read."""

import sys

from pagerduty import RestApiV2Client


class LoopbackClient(RestApiV2Client):
    """The official client, with plain HTTP allowed. Normally it requires https."""

    @property
    def url(self) -> str:
        """Return the base URL."""
        return str(self._url)

    @url.setter
    def url(self, new_base_url: str) -> None:
        self._url = new_base_url


def main() -> None:
    base, key, times = sys.argv[1:]
    client, read = LoopbackClient(key, base_url=base), 0
    for _ in range(int(times)):
        everything = {"date_range": "all", "sort_by": "incident_number:asc", "time_zone": "UTC"}
        read += sum(1 for _ in client.iter_all("incidents", params=everything, page_size=100))
    print(read)


if __name__ == "__main__":
    main()
