/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The guests of a measurement: all ports that EAL finds (virtio_user), on one lcore. Port i sends
 * to port i ^ 1, and every frame is checked on arrival. With the word "down" or "up" after the
 * length the last port is the wire at the switch's uplink: it sends to the guests in turns, or all
 * of them send to it. Guest i has VLAN 1000 + i there; "wire" as a third word means that its frames
 * have the tag in the guest too, since the switch under test leaves tags alone.
 *
 * Commands come on stdin, one a line, and each is answered by one line on stdout:
 *
 *   run WARM MS        send and receive on all ports; after WARM ms count for MS ms.
 *                      "FRAMES BAD SECONDS": frames received, frames with a wrong destination,
 *                      tag or length, time it took
 *   ping COUNT PAUSE   one frame at a time from port 0 to port 1, with pauses of up to PAUSE us.
 *                      "P50 P99 LOST": microseconds from transmit call to arrival
 *   quit
 */
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <rte_cycles.h>
#include <rte_eal.h>
#include <rte_ethdev.h>
#include <rte_mbuf.h>
#include <rte_random.h>

#include "bench/timing.h"

#define BURST 32
#define VLAN_BASE 1000
#define PINGS_MAX 100000

static struct rte_mempool *pool;
static uint16_t nb_ports;
static uint16_t frame_len; /* without a tag */
static bool is_down, is_up;
static bool tag_in_guests;
static struct rte_ether_addr mac[RTE_MAX_ETHPORTS];

static void
die(const char *what, int ret)
{
	fprintf(stderr, "generator: %s: %s\n", what, strerror(-ret));
	exit(EXIT_FAILURE);
}

static void
start_port(uint16_t port)
{
	struct rte_eth_conf conf = { 0 };
	int ret;

	ret = rte_eth_dev_configure(port, 1, 1, &conf);
	if (ret == 0)
		ret = rte_eth_rx_queue_setup(port, 0, 256, 0, NULL, pool);
	if (ret == 0)
		ret = rte_eth_tx_queue_setup(port, 0, 256, 0, NULL);
	if (ret == 0)
		ret = rte_eth_dev_start(port);
	if (ret == 0)
		ret = rte_eth_macaddr_get(port, &mac[port]);
	if (ret < 0)
		die("cannot start a port", ret);
}

static bool
is_wire(uint16_t port)
{
	return (is_down || is_up) && port == nb_ports - 1;
}

/* Whether frames have a tag at a port. */
static bool
is_tagged(uint16_t port)
{
	return is_wire(port) || tag_in_guests;
}

static void
fill(struct rte_mbuf *m, uint16_t from, uint16_t to)
{
	struct rte_ether_hdr *eth = rte_pktmbuf_mtod(m, struct rte_ether_hdr *);
	struct rte_vlan_hdr *tag = (struct rte_vlan_hdr *)(eth + 1);
	uint16_t guest = is_wire(from) ? to : from;

	eth->dst_addr = mac[to];
	eth->src_addr = mac[from];
	eth->ether_type = RTE_BE16(0x88b5);
	m->data_len = frame_len;
	if (is_tagged(from)) {
		eth->ether_type = RTE_BE16(RTE_ETHER_TYPE_VLAN);
		tag->vlan_tci = rte_cpu_to_be_16((uint16_t)(VLAN_BASE + guest));
		tag->eth_proto = RTE_BE16(0x88b5);
		m->data_len = (uint16_t)(frame_len + sizeof(*tag));
	}
	m->pkt_len = m->data_len;
}

/* Whether a frame that came to a port is one that was sent to it. */
static bool
is_good(const struct rte_mbuf *m, uint16_t port)
{
	const struct rte_ether_hdr *eth = rte_pktmbuf_mtod(m, const struct rte_ether_hdr *);
	const struct rte_vlan_hdr *tag = (const struct rte_vlan_hdr *)(eth + 1);
	uint16_t guest = port;

	if (!rte_is_same_ether_addr(&eth->dst_addr, &mac[port]))
		return false;
	if (!is_tagged(port))
		return m->pkt_len == frame_len && eth->ether_type == RTE_BE16(0x88b5);
	if (is_wire(port)) {
		guest = (uint16_t)(rte_be_to_cpu_16(tag->vlan_tci) - VLAN_BASE);
		if (guest >= port || !rte_is_same_ether_addr(&eth->src_addr, &mac[guest]))
			return false;
	}
	return m->pkt_len == frame_len + sizeof(*tag) &&
		eth->ether_type == RTE_BE16(RTE_ETHER_TYPE_VLAN) &&
		tag->vlan_tci == rte_cpu_to_be_16((uint16_t)(VLAN_BASE + guest));
}

static uint16_t
send_burst(uint16_t port, uint16_t to, uint16_t n)
{
	struct rte_mbuf *frames[BURST];
	uint16_t i, sent;

	if (rte_pktmbuf_alloc_bulk(pool, frames, n) < 0)
		return 0;
	for (i = 0; i < n; i++)
		fill(frames[i], port, to);
	sent = rte_eth_tx_burst(port, 0, frames, n);
	rte_pktmbuf_free_bulk(frames + sent, n - sent);
	return sent;
}

/* Returns how many frames came, and adds to *bad those that are not what was sent there. */
static uint16_t
receive_burst(uint16_t port, uint64_t *bad)
{
	struct rte_mbuf *frames[BURST];
	uint16_t i, n = rte_eth_rx_burst(port, 0, frames, BURST);

	for (i = 0; i < n; i++)
		*bad += !is_good(frames[i], port);
	rte_pktmbuf_free_bulk(frames, n);
	return n;
}

/* As many bursts as there are guests, so that the wire takes what all of them send. */
static uint64_t
receive_at_wire(uint16_t wire, uint64_t *bad)
{
	uint64_t frames = 0;
	uint16_t i, n = BURST;

	for (i = 0; i < wire && n == BURST; i++) {
		n = receive_burst(wire, bad);
		frames += n;
	}
	return frames;
}

/* The wire and its guests: one way at full speed. */
static uint64_t
work_wire(uint64_t until, uint64_t *bad)
{
	uint16_t wire = (uint16_t)(nb_ports - 1), to = 0, port;
	uint64_t frames = 0;

	do {
		if (is_down) {
			send_burst(wire, to, BURST);
			to = (uint16_t)((to + 1) % wire);
		} else {
			frames += receive_at_wire(wire, bad);
		}
		for (port = 0; port < wire; port++) {
			if (is_down)
				frames += receive_burst(port, bad);
			else
				send_burst(port, wire, BURST);
		}
	} while (rte_rdtsc() < until);
	return frames;
}

/* Let the switch know who the guests are, and the wire. */
static void
introduce(void)
{
	uint16_t wire = (uint16_t)(nb_ports - 1), port;
	uint64_t ignored = 0;

	for (port = 0; port < wire; port++) {
		send_burst(port, wire, 1);
		send_burst(wire, port, 1);
	}
	rte_delay_us_block(1000);
	while (receive_burst(wire, &ignored) > 0)
		;
}

static uint64_t
work(uint64_t until, uint64_t *bad)
{
	uint64_t frames = 0;
	uint16_t port;

	if (is_down || is_up)
		return work_wire(until, bad);
	do {
		for (port = 0; port < nb_ports; port++) {
			frames += receive_burst(port, bad);
			send_burst(port, port ^ 1, BURST);
		}
	} while (rte_rdtsc() < until);
	return frames;
}

static void
run(unsigned int warm_ms, unsigned int ms)
{
	uint64_t hz = rte_get_tsc_hz(), bad = 0, frames, start;

	if (is_down || is_up)
		introduce();
	work(rte_rdtsc() + hz * warm_ms / 1000, &bad);
	bad = 0;
	start = rte_rdtsc();
	frames = work(start + hz * ms / 1000, &bad);
	printf("%" PRIu64 " %" PRIu64 " %.6f\n", frames, bad,
		(double)(rte_rdtsc() - start) / (double)hz);
}

static void
ping(unsigned int count, unsigned int pause_us)
{
	static uint64_t took[PINGS_MAX];
	uint64_t hz = rte_get_tsc_hz(), bad = 0, start, now, quiet;
	unsigned int i, n = 0, lost = 0;
	uint16_t port;

	/* What is left of a run is still on its way: until nothing has come for 2 ms. */
	quiet = rte_rdtsc() + hz / 500;
	while (rte_rdtsc() < quiet) {
		for (port = 0; port < nb_ports; port++)
			if (receive_burst(port, &bad) > 0)
				quiet = rte_rdtsc() + hz / 500;
	}
	for (i = 0; i < RTE_MIN(count, (unsigned int)PINGS_MAX); i++) {
		if (pause_us > 0)
			rte_delay_us_block((unsigned int)rte_rand_max(pause_us));
		start = rte_rdtsc();
		if (send_burst(0, 1, 1) != 1) {
			lost++;
			continue;
		}
		do {
			now = rte_rdtsc();
		} while (receive_burst(1, &bad) == 0 && now - start < hz / 100);
		if (now - start >= hz / 100)
			lost++;
		else
			took[n++] = rte_rdtsc() - start;
	}
	sort_times(took, n);
	printf("%.3f %.3f %u\n", n ? (double)took[n / 2] * 1e6 / (double)hz : 0.0,
		n ? (double)took[n * 99 / 100] * 1e6 / (double)hz : 0.0, lost);
}

int
main(int argc, char **argv)
{
	char line[64];
	unsigned int a, b;
	uint16_t port;
	int used = rte_eal_init(argc, argv);

	if (used < 0 || used + 1 >= argc)
		die("usage: generator EAL-ARGS -- LENGTH [down|up [wire]]", -EINVAL);
	is_down = used + 2 < argc && strcmp(argv[used + 2], "down") == 0;
	is_up = used + 2 < argc && !is_down;
	tag_in_guests = used + 3 < argc;
	frame_len = (uint16_t)(atoi(argv[used + 1]) - RTE_ETHER_CRC_LEN);
	nb_ports = rte_eth_dev_count_avail();
	pool = rte_pktmbuf_pool_create("frames", nb_ports * 1024u + 4096, 256, 0,
		RTE_MBUF_DEFAULT_BUF_SIZE, 0);
	if (pool == NULL || nb_ports < 2 || (nb_ports % 2 && !is_down && !is_up))
		die("needs memory and an even number of guests", -EINVAL);
	for (port = 0; port < nb_ports; port++)
		start_port(port);
	setvbuf(stdout, NULL, _IOLBF, 0);
	puts("ready");
	while (fgets(line, sizeof(line), stdin) != NULL && strcmp(line, "quit\n") != 0) {
		if (sscanf(line, "run %u %u", &a, &b) == 2)
			run(a, b);
		else if (sscanf(line, "ping %u %u", &a, &b) == 2)
			ping(a, b);
		else
			puts("?");
	}
	for (port = 0; port < nb_ports; port++)
		rte_eth_dev_stop(port);
	return EXIT_SUCCESS;
}
