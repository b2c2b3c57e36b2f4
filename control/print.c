/* SPDX-License-Identifier: BSD-3-Clause */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "control/stats.h"
#include "log/log.h"
#include "port/guest.h"
#include "switch/worker.h"

static void
print_guest(const struct stats_source *src, uint16_t id, FILE *out)
{
	struct guest_counters sum;
	struct guest_totals t;
	const struct port *port = src->guests->by_id[id]->port;
	const char *name = port != NULL ? port->name : NULL;

	stats_guest(src, id, &sum);
	t = counters_totals(&sum);
	fprintf(out, "Statistics for device %u%s%s%s ------------------------------\n"
		"TX total:      %20" PRIu64 "\n"
		"TX dropped:    %20" PRIu64 "\n"
		"TX successful: %20" PRIu64 "\n"
		"RX total:      %20" PRIu64 "\n"
		"RX dropped:    %20" PRIu64 "\n"
		"RX successful: %20" PRIu64 "\n",
		id, name != NULL ? " (port " : "", name != NULL ? name : "",
		name != NULL ? ")" : "", t.tx_total, t.tx_dropped, t.tx_ok, t.rx_total,
		t.rx_dropped, t.rx_ok);
}

void
stats_print(const struct stats_source *src, struct stats_last *last)
{
	char *text = NULL;
	size_t len = 0;
	uint16_t id;
	FILE *out;

	if (isatty(STDOUT_FILENO)) {
		stats_screen(src, last);
		return;
	}
	out = open_memstream(&text, &len);
	if (out == NULL)
		return;
	fprintf(out, "Device statistics =====================================\n");
	pthread_mutex_lock(&src->guests->mutex);
	for (id = 0; id < ID_MAX; id++) {
		if (src->guests->by_id[id] != NULL)
			print_guest(src, id, out);
	}
	pthread_mutex_unlock(&src->guests->mutex);
	fprintf(out, "=======================================================\n");
	fclose(out);
	log_statistics(text, len, false);
	free(text);
}
