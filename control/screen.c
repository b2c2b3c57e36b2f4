/* SPDX-License-Identifier: BSD-3-Clause */
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <rte_cycles.h>

#include "control/stats.h"
#include "log/log.h"
#include "port/guest.h"
#include "switch/worker.h"
#include "uplink/uplink.h"

/* Without a size of its own a terminal is taken for this. */
#define COLUMNS 80
#define LINES 24

/* A screen under construction: lines, cut at the terminal's width. */
struct screen {
	FILE *out;
	struct stats_last *last;
	unsigned int columns, lines, used;
};

__rte_format_printf(2, 3)
static void
line(struct screen *s, const char *format, ...)
{
	char text[512];
	va_list args;

	if (s->used == s->lines)
		return;
	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	/* ECMA-48: erase to the end of the line, so that nothing of the last screen stays */
	fprintf(s->out, "%s%.*s\033[K", s->used > 0 ? "\n" : "", (int)s->columns, text);
	s->used++;
}

/* A rate in five characters. */
static const char *
rate(uint64_t now, uint64_t before, double seconds, char *text, size_t len)
{
	double per_s = now >= before && seconds > 0 ? (double)(now - before) / seconds : 0;

	if (per_s >= 1e6)
		snprintf(text, len, "%.*fM", per_s < 1e7 ? 2 : 1, per_s / 1e6);
	else if (per_s >= 1e3)
		snprintf(text, len, "%.*fk", per_s < 1e4 ? 2 : per_s < 1e5 ? 1 : 0, per_s / 1e3);
	else
		snprintf(text, len, "%.0f", per_s);
	return text;
}

static void
draw_workers(struct screen *s, const struct stats_source *src)
{
	unsigned int i;

	for (i = 0; i < src->nb_workers; i++) {
		const struct worker *w = src->workers[i];
		uint64_t cycles = __atomic_load_n(&w->cycles, __ATOMIC_RELAXED);
		uint64_t busy = __atomic_load_n(&w->busy_cycles, __ATOMIC_RELAXED);
		uint64_t all = cycles - s->last->cycles[i];

		line(s, "worker %u   lcore %-3u  busy %3.0f %%   guests %u", i, w->lcore,
			all > 0 ? (double)(busy - s->last->busy[i]) * 100 / (double)all : 0.0,
			src->guests->of_worker[i]->n);
		s->last->cycles[i] = cycles;
		s->last->busy[i] = busy;
	}
}

static uint64_t
sum(const uint64_t *count, unsigned int n)
{
	uint64_t total = 0;

	while (n > 0)
		total += count[--n];
	return total;
}

/* "  dropped: NAME COUNT, ..." of the reasons that there were. */
static void
draw_reasons(struct screen *s, const char *what, const struct drop_reason *reason,
	const uint64_t *count, unsigned int n)
{
	char text[512];
	size_t len = 0;
	unsigned int i;

	for (i = 0; i < n && len < sizeof(text); i++) {
		if (count[i] > 0)
			len += (size_t)snprintf(text + len, sizeof(text) - len, "%s %s %" PRIu64,
				len > 0 ? "," : "", reason[i].name, count[i]);
	}
	if (len > 0)
		line(s, "     %s dropped:%s", what, text);
}

static void
draw_uplink(struct screen *s, const struct stats_source *src, double seconds)
{
	const struct uplink *up = src->uplink;
	uint32_t mbps = __atomic_load_n(&up->link.mbps, __ATOMIC_RELAXED);
	struct uplink_counters now;
	char r[16], t[16];

	if (!up->present) {
		line(s, "uplink     none");
		return;
	}
	stats_uplink(src, &now);
	line(s, "uplink     port %u, %s, %s   RX %" PRIu64 " (%s/s)   TX %" PRIu64 " (%s/s)",
		up->port, up->steering->name,
		mbps > 0 ? rte_eth_link_speed_to_str(mbps) : "no link", now.rx,
		rate(now.rx, s->last->uplink.rx, seconds, r, sizeof(r)), now.tx_ok,
		rate(now.tx_ok, s->last->uplink.tx_ok, seconds, t, sizeof(t)));
	draw_reasons(s, "RX", uplink_drop_reason, now.rx_drop, UPLINK_DROP_MAX);
	s->last->uplink = now;
}

static void
draw_way(struct screen *s, const char *name, const uint64_t now[3], const uint64_t before[3],
	double seconds)
{
	char total[16], dropped[16];

	line(s, "     %s %15" PRIu64 " %6s/s %15" PRIu64 " %15" PRIu64 " %6s/s", name, now[0],
		rate(now[0], before[0], seconds, total, sizeof(total)), now[1], now[2],
		rate(now[2], before[2], seconds, dropped, sizeof(dropped)));
}

/* Lines that draw_guest() needs. */
static unsigned int
lines_of(const struct guest_counters *counters)
{
	return 3u + (sum(counters->tx_drop, TX_DROP_MAX) > 0) +
		(sum(counters->rx_drop, RX_DROP_MAX) > 0);
}

/* For the rates of the next screen. */
static void
remember(struct screen *s, const struct guest *g, const struct guest_counters *counters)
{
	s->last->guest[g->id] = counters_totals(counters);
	s->last->serial[g->id] = g->serial;
}

/* What a port's guest is in: its VLAN, a trunk, or the untagged network. */
static const char *
vlan_text(const struct port_rules *r, char *text, size_t size)
{
	if (r->is_trunk)
		return "trunk";
	if (r->native == DOMAIN_UNTAGGED)
		return "untagged";
	snprintf(text, size, "VLAN %u", r->native);
	return text;
}

static void
draw_guest(struct screen *s, const struct guest *g, const struct guest_counters *counters,
	double seconds)
{
	struct guest_totals *old = &s->last->guest[g->id], now = counters_totals(counters);
	struct rte_ether_addr mac = { { 0 } };
	unsigned int pairs = device_count_pairs(g->device->rx);
	char vlan[16];

	if (!guest_serials_match(s->last->serial[g->id], g->serial))
		memset(old, 0, sizeof(*old));
	if (guest_is_registered(g))
		fdb_key_to_mac(g->mac, &mac);
	if (g->port == NULL)
		line(s, "(%u)  " MAC_FMT "  VLAN %u  worker %u  queue pairs %u  %s", g->id,
			RTE_ETHER_ADDR_BYTES(&mac), g->vlan, g->worker, pairs,
			stats_guest_state(g));
	else
		line(s, "(%u)  port %s  %s  worker %u  queue pairs %u  %s", g->id, g->port->name,
			vlan_text(g->port->rules, vlan, sizeof(vlan)), g->worker, pairs,
			stats_guest_state(g));
	draw_way(s, "TX", (uint64_t[]){ now.tx_total, now.tx_ok, now.tx_dropped },
		(uint64_t[]){ old->tx_total, old->tx_ok, old->tx_dropped }, seconds);
	draw_way(s, "RX", (uint64_t[]){ now.rx_total, now.rx_ok, now.rx_dropped },
		(uint64_t[]){ old->rx_total, old->rx_ok, old->rx_dropped }, seconds);
	draw_reasons(s, "TX", tx_drop_reason, counters->tx_drop, TX_DROP_MAX);
	draw_reasons(s, "RX", rx_drop_reason, counters->rx_drop, RX_DROP_MAX);
}

static void
draw_guests(struct screen *s, const struct stats_source *src, double seconds)
{
	const struct guest_set *all = src->guests->all;
	struct guest_counters counters;
	bool room = true;
	unsigned int i;

	for (i = 0; i < all->n; i++) {
		stats_guest(src, all->guest[i]->id, &counters);
		/* All of this one, and a line to tell of the others. */
		if (room && s->used + lines_of(&counters) + (i + 1 < all->n) > s->lines) {
			line(s, "... and %u guests more: a larger terminal, or dpdk-telemetry.py",
				all->n - i);
			room = false;
		}
		if (room)
			draw_guest(s, all->guest[i], &counters, seconds);
		remember(s, all->guest[i], &counters);
	}
}

void
stats_screen(const struct stats_source *src, struct stats_last *last)
{
	uint64_t now = rte_rdtsc();
	double seconds = last->when > 0 ? (double)(now - last->when) / (double)rte_get_tsc_hz() : 0;
	struct winsize size = { 0 };
	struct screen s = { .last = last, .columns = COLUMNS, .lines = LINES };
	char *text = NULL;
	size_t len = 0;

	if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0 && size.ws_row > 0) {
		s.columns = size.ws_col;
		s.lines = size.ws_row;
	}
	s.out = open_memstream(&text, &len);
	if (s.out == NULL)
		return;
	fputs("\033[H", s.out);
	pthread_mutex_lock(&src->guests->mutex);
	line(&s, "Device statistics: %u guests", src->guests->all->n);
	draw_workers(&s, src);
	draw_uplink(&s, src, seconds);
	line(&s, "%s", "");
	line(&s, "        %15s %8s %15s %15s %8s", "total", "rate", "successful", "dropped",
		"rate");
	draw_guests(&s, src, seconds);
	pthread_mutex_unlock(&src->guests->mutex);
	fputs("\033[J", s.out); /* and what was below */
	fclose(s.out);
	last->when = now;
	log_statistics(text, len, true); /* in one piece: no flicker */
	free(text);
}
