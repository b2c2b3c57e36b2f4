/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Every pair of guests, with frames compared byte by byte: all ports that EAL finds (virtio_user),
 * on one lcore. "MERGEABLE ..." are the numbers of those that merge receive buffers: they have
 * buffers of 2 KB, the others of 10 KB.
 *
 *   matrix EAL-ARGS -- SIZE,SIZE,... [MERGEABLE ...]
 *
 * For each size and ordered pair two turns: frames received as they come; and more frames than the
 * receiver's ring holds, received late. "FROM TO SIZE MOVING FULL" for each, where MOVING and FULL
 * are frames that arrived, and "wrong" with a reason when one is not as it was sent.
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

#define BURST 16
#define MOVING 200
#define RING 64
#define FULL (3 * RING)

/* How long frames that are sure to come may take on a busy machine. */
#define TIMEOUT_MS 3000

/* After that nothing more is taken to come of those that a full ring let through. */
#define QUIET_MS 20

static struct rte_mempool *small, *large;
static bool mergeable[RTE_MAX_ETHPORTS];
static struct rte_ether_addr mac[RTE_MAX_ETHPORTS];
static uint16_t nb_ports;

static void
die(const char *what, int ret)
{
	fprintf(stderr, "matrix: %s: %s\n", what, strerror(-ret));
	exit(EXIT_FAILURE);
}

static struct rte_mempool *
pool_of(uint16_t port)
{
	return mergeable[port] ? small : large;
}

static void
start_port(uint16_t port)
{
	struct rte_eth_conf conf = { .rxmode = { .mtu = 9000,
		.offloads = mergeable[port] ? RTE_ETH_RX_OFFLOAD_SCATTER : 0 },
		.txmode = { .offloads = RTE_ETH_TX_OFFLOAD_MULTI_SEGS } };
	int ret;

	ret = rte_eth_dev_configure(port, 1, 1, &conf);
	if (ret == 0)
		ret = rte_eth_rx_queue_setup(port, 0, RING, 0, NULL, pool_of(port));
	if (ret == 0)
		ret = rte_eth_tx_queue_setup(port, 0, RING, 0, NULL);
	if (ret == 0)
		ret = rte_eth_dev_start(port);
	if (ret == 0)
		ret = rte_eth_macaddr_get(port, &mac[port]);
	if (ret < 0)
		die("cannot start a port", ret);
}

static void
make_frame(uint8_t *f, uint16_t from, uint16_t to, uint32_t seq, uint32_t size)
{
	uint32_t k;

	memcpy(f, &mac[to], 6);
	memcpy(f + 6, &mac[from], 6);
	f[12] = 0x88;
	f[13] = 0xb5;
	for (k = 14; k < size; k++)
		f[k] = (uint8_t)(seq * 31 + k * 7 + k / 251);
	memcpy(f + 14, &seq, sizeof(seq));
}

/* Returns whether it went out. */
static bool
send_one(uint16_t from, uint16_t to, uint32_t seq, uint32_t size)
{
	static uint8_t f[16384];
	struct rte_mbuf *first = NULL, *m;
	uint32_t off = 0;

	make_frame(f, from, to, seq, size);
	while (off < size) {
		uint16_t part;

		m = rte_pktmbuf_alloc(pool_of(from));
		if (m == NULL)
			die("no mbuf", -ENOMEM);
		part = (uint16_t)RTE_MIN(size - off, (uint32_t)rte_pktmbuf_tailroom(m));
		memcpy(rte_pktmbuf_append(m, part), f + off, part);
		off += part;
		if (first == NULL)
			first = m;
		else if (rte_pktmbuf_chain(first, m) < 0)
			die("chain", -EOVERFLOW);
	}
	if (rte_eth_tx_burst(from, 0, &first, 1) == 1)
		return true;
	rte_pktmbuf_free(first);
	return false;
}

/* Receive what has come; *next is the number that the next frame has at least. */
static unsigned int
receive(uint16_t from, uint16_t to, uint32_t size, uint32_t *next)
{
	static uint8_t want[16384], got[16384];
	struct rte_mbuf *frames[BURST];
	uint16_t i, n = rte_eth_rx_burst(to, 0, frames, BURST);

	for (i = 0; i < n; i++) {
		const uint8_t *data = rte_pktmbuf_read(frames[i], 0,
			RTE_MIN(frames[i]->pkt_len, size), got);
		uint32_t seq;

		memcpy(&seq, data + 14, sizeof(seq));
		make_frame(want, from, to, seq, size);
		if (frames[i]->pkt_len != size)
			printf("wrong: %u to %u: %u bytes, not %u\n", from, to, frames[i]->pkt_len,
				size);
		else if (memcmp(data, want, size) != 0)
			printf("wrong: %u to %u, %u bytes: content\n", from, to, size);
		else if (seq < *next)
			printf("wrong: %u to %u, %u bytes: frame %u after %u\n", from, to, size,
				seq, *next - 1);
		*next = seq + 1;
	}
	rte_pktmbuf_free_bulk(frames, n);
	return n;
}

/* Until so many have come, or nothing for so long. */
static unsigned int
receive_rest(uint16_t from, uint16_t to, uint32_t size, uint32_t *next, unsigned int want,
	unsigned int quiet_ms)
{
	uint64_t quiet = quiet_ms * rte_get_tsc_hz() / 1000, last = rte_rdtsc();
	unsigned int total = 0, n;

	while (total < want && rte_rdtsc() - last < quiet) {
		n = receive(from, to, size, next);
		if (n > 0)
			last = rte_rdtsc();
		total += n;
	}
	return total;
}

static void
try_pair(uint16_t from, uint16_t to, uint32_t size)
{
	unsigned int moving = 0, full = 0, sent = 0;
	uint64_t end = rte_rdtsc() + TIMEOUT_MS * rte_get_tsc_hz() / 1000;
	uint32_t next = 0;

	while (sent < MOVING && rte_rdtsc() < end) {
		sent += send_one(from, to, sent, size);
		/* Never more than the receiver has room for. */
		if (sent % (size > 2000 ? 4 : BURST) == 0)
			moving += receive_rest(from, to, size, &next, sent - moving, TIMEOUT_MS);
	}
	moving += receive_rest(from, to, size, &next, sent - moving, TIMEOUT_MS);
	end = rte_rdtsc() + rte_get_tsc_hz();
	for (next = 0, sent = 0; sent < FULL && rte_rdtsc() < end;)
		sent += send_one(from, to, sent, size);
	rte_delay_ms(2); /* longer than the switch waits */
	full = receive_rest(from, to, size, &next, FULL, QUIET_MS);
	printf("%u %u %u %u %u\n", from, to, size, moving, full);
}

/* Each guest is heard once, and all hear it. */
static void
introduce(void)
{
	const struct rte_ether_addr all = { { 0xff, 0xff, 0xff, 0xff, 0xff, 0xff } };
	struct rte_mbuf *frames[BURST];
	uint16_t port, n, turn;

	for (turn = 0; turn < 3; turn++) {
		for (port = 0; port < nb_ports; port++) {
			struct rte_mbuf *m = rte_pktmbuf_alloc(pool_of(port));
			uint8_t *f = m != NULL ? (uint8_t *)rte_pktmbuf_append(m, 60) : NULL;

			if (f == NULL)
				die("no mbuf", -ENOMEM);
			memset(f, 0, 60);
			memcpy(f, &all, 6);
			memcpy(f + 6, &mac[port], 6);
			if (rte_eth_tx_burst(port, 0, &m, 1) == 0)
				rte_pktmbuf_free(m);
		}
		rte_delay_ms(50);
		for (port = 0; port < nb_ports; port++) {
			while ((n = rte_eth_rx_burst(port, 0, frames, BURST)) > 0)
				rte_pktmbuf_free_bulk(frames, n);
		}
	}
}

int
main(int argc, char **argv)
{
	uint16_t from, to;
	char *size;
	int i, used = rte_eal_init(argc, argv);

	if (used < 0 || used + 1 >= argc)
		die("usage: matrix EAL-ARGS -- SIZE,SIZE,... [MERGEABLE ...]", -EINVAL);
	argv += used + 1;
	argc -= used + 1;
	for (i = 1; i < argc; i++)
		mergeable[atoi(argv[i]) % RTE_MAX_ETHPORTS] = true;
	nb_ports = rte_eth_dev_count_avail();
	small = rte_pktmbuf_pool_create("small", 8191, 64, 0, RTE_MBUF_DEFAULT_BUF_SIZE, 0);
	large = rte_pktmbuf_pool_create("large", 2047, 64, 0, 10240, 0);
	if (small == NULL || large == NULL)
		die("no memory", -ENOMEM);
	for (from = 0; from < nb_ports; from++)
		start_port(from);
	setvbuf(stdout, NULL, _IOLBF, 0);
	puts("ready");
	rte_delay_ms(500); /* the switch has to see them all */
	introduce();
	for (size = strtok(argv[0], ","); size != NULL; size = strtok(NULL, ",")) {
		for (from = 0; from < nb_ports; from++) {
			for (to = 0; to < nb_ports; to++) {
				if (from != to)
					try_pair(from, to,
						(uint32_t)atoi(size) - RTE_ETHER_CRC_LEN);
			}
		}
	}
	puts("done");
	for (from = 0; from < nb_ports; from++)
		rte_eth_dev_stop(from);
	return EXIT_SUCCESS;
}
