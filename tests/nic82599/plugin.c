/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The model as a DPDK plugin: a vdev that presents the card to the ixgbe PMD as if it stood on the
 * PCI bus, and plugs another ethdev into it as the wire.
 *
 *   -d libnic82599.so --no-pci --iova-mode=va --vdev net_tap0,iface=wire0 \
 *     --vdev nic82599,wire=net_tap0
 *
 * The wire has to stand before the card. The ixgbe port comes after it: port 1 here.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <bus_pci_driver.h>
#include <bus_vdev_driver.h>
#include <private.h>
#include <rte_ethdev.h>
#include <rte_interrupts.h>
#include <rte_kvargs.h>
#include <rte_log.h>
#include <rte_mbuf.h>
#include <rte_telemetry.h>

#include "mmio.h"
#include "nic.h"

#define BURST 32
#define WIRE_RING 512
#define WIRE_MBUFS 2048
/* When nothing came from the wire, look again after this time. */
#define IDLE_US 50

RTE_LOG_REGISTER_DEFAULT(nic82599_log, INFO);
#define LOG(level, ...) rte_log(RTE_LOG_##level, nic82599_log, "nic82599: " __VA_ARGS__)

/* There is one card: its registers are trapped by one process-wide handler. */
static struct {
	struct nic nic;
	struct rte_pci_device pci;
	uint16_t port;	    /* of the ixgbe PMD */
	uint16_t wire_port;
	struct rte_mempool *pool;
	int irq[2];	    /* [0] is the driver's */
	pthread_t thread;
	bool running;	    /* the wire thread is to go on; atomic */
	bool started;
} card;

/* The wire. */

static void
send_to_wire(struct nic *nic, const uint8_t *frame, size_t len)
{
	struct rte_mbuf *m = rte_pktmbuf_alloc(card.pool);
	char *data;

	RTE_SET_USED(nic);
	if (m == NULL)
		return;
	data = rte_pktmbuf_append(m, (uint16_t)len);
	if (data == NULL)
		not_modelled("a frame longer than the wire's buffers", (uint32_t)len);
	memcpy(data, frame, len);
	if (rte_eth_tx_burst(card.wire_port, 0, &m, 1) == 0)
		rte_pktmbuf_free(m);
}

static void
receive_from_wire(struct rte_mbuf *m)
{
	static uint8_t space[NIC_FRAME_MAX]; /* the wire thread's */
	const void *data;

	if (m->ol_flags & RTE_MBUF_F_RX_VLAN_STRIPPED && rte_vlan_insert(&m) < 0)
		not_modelled("a stripped tag that cannot be put back", m->vlan_tci);
	if (rte_pktmbuf_pkt_len(m) <= sizeof(space)) {
		data = rte_pktmbuf_read(m, 0, rte_pktmbuf_pkt_len(m), space);
		rte_spinlock_lock(&card.nic.lock);
		receive(&card.nic, data, rte_pktmbuf_pkt_len(m), -1);
		rte_spinlock_unlock(&card.nic.lock);
	}
	rte_pktmbuf_free(m);
}

static void *
run_wire(void *arg)
{
	struct rte_mbuf *frames[BURST];
	char enables[64];
	uint16_t i, n;

	while (__atomic_load_n(&card.running, __ATOMIC_RELAXED)) {
		n = rte_eth_rx_burst(card.wire_port, 0, frames, BURST);
		for (i = 0; i < n; i++)
			receive_from_wire(frames[i]);
		/* The driver enables and disables its interrupt by writing, as with UIO. */
		while (read(card.irq[1], enables, sizeof(enables)) == sizeof(enables))
			;
		if (n == 0)
			usleep(IDLE_US);
	}
	return arg;
}

static int
start_wire(const char *name)
{
	struct rte_eth_conf conf = { 0 };
	uint16_t room = RTE_PKTMBUF_HEADROOM + NIC_FRAME_MAX;
	int ret;

	ret = rte_eth_dev_get_port_by_name(name, &card.wire_port);
	if (ret < 0) {
		LOG(ERR, "wire=%s: there is no such port (it has to stand before the card)\n",
			name);
		return ret;
	}
	card.pool = rte_pktmbuf_pool_create("nic82599", WIRE_MBUFS, 0, 0, room,
		(int)rte_socket_id());
	if (card.pool == NULL)
		return -rte_errno;
	ret = rte_eth_dev_configure(card.wire_port, 1, 1, &conf);
	if (ret == 0)
		ret = rte_eth_rx_queue_setup(card.wire_port, 0, WIRE_RING, 0, NULL, card.pool);
	if (ret == 0)
		ret = rte_eth_tx_queue_setup(card.wire_port, 0, WIRE_RING, 0, NULL);
	if (ret == 0)
		ret = rte_eth_dev_start(card.wire_port);
	if (ret < 0) {
		LOG(ERR, "wire=%s cannot be started: %s\n", name, strerror(-ret));
		return ret;
	}
	rte_eth_promiscuous_enable(card.wire_port);
	__atomic_store_n(&card.running, true, __ATOMIC_RELAXED);
	ret = pthread_create(&card.thread, NULL, run_wire, NULL);
	card.started = ret == 0;
	return -ret;
}

static void
stop_wire(void)
{
	if (!card.started)
		return;
	__atomic_store_n(&card.running, false, __ATOMIC_RELAXED);
	pthread_join(card.thread, NULL);
	card.started = false;
}

/* The application closes the port: from now on nobody receives. */
static int
on_port_closed(uint16_t port, enum rte_eth_event_type type, void *arg, void *ret)
{
	RTE_SET_USED(port);
	RTE_SET_USED(type);
	RTE_SET_USED(arg);
	RTE_SET_USED(ret);
	stop_wire();
	return 0;
}

/* The card, on the bus. */

#define PCI_BUS(b) container_of(b, struct rte_pci_bus, bus)

static struct rte_pci_driver *
find_ixgbe(struct rte_bus *pci)
{
	struct rte_pci_driver *driver;

	if (pci == NULL)
		return NULL;
	RTE_TAILQ_FOREACH(driver, &PCI_BUS(pci)->driver_list, next) {
		if (strcmp(driver->driver.name, "net_ixgbe") == 0)
			return driver;
	}
	return NULL;
}

static uint32_t
read_bar(void *nic, uint32_t offset)
{
	return nic_read(nic, offset);
}

static void
write_bar(void *nic, uint32_t offset, uint32_t value)
{
	nic_write(nic, offset, value);
}

static int
plug_in(struct rte_bus *bus, struct rte_pci_driver *driver)
{
	const struct mmio_bus registers = { read_bar, write_bar, &card.nic };
	struct rte_pci_device *pci = &card.pci;
	int ret;

	pci->id.vendor_id = 0x8086;
	pci->id.device_id = 0x10f7; /* 82599 KX4: a backplane, so no SFP module to talk to */
	pci->id.subsystem_vendor_id = 0x8086;
	pci->id.class_id = 0x020000;
	pci->addr.bus = 0xfe; /* any */
	rte_pci_device_name(&pci->addr, pci->name, sizeof(pci->name));
	pci->device.name = pci->name;
	pci->device.bus = bus;
	pci->device.numa_node = SOCKET_ID_ANY;
	pci->device.driver = &driver->driver;
	pci->driver = driver;
	pci->kdrv = RTE_PCI_KDRV_UIO_GENERIC;
	pci->mem_resource[0].addr = mmio_map(&registers, NIC_BAR_LEN);
	pci->mem_resource[0].len = NIC_BAR_LEN;
	pci->intr_handle = rte_intr_instance_alloc(RTE_INTR_INSTANCE_F_PRIVATE);
	if (pci->mem_resource[0].addr == NULL || pci->intr_handle == NULL)
		return -ENOMEM;
	rte_intr_type_set(pci->intr_handle, RTE_INTR_HANDLE_UIO);
	rte_intr_fd_set(pci->intr_handle, card.irq[0]);
	rte_intr_dev_fd_set(pci->intr_handle, card.irq[0]);
	ret = driver->probe(driver, pci);
	if (ret < 0)
		LOG(ERR, "the ixgbe PMD does not take the card: %s\n", strerror(-ret));
	return ret;
}

/* Telemetry: what the card knows, for tests and for people. Registers as they are, not cleared. */

static void
add_hex(struct rte_tel_data *d, const char *name, uint64_t value)
{
	char text[24];

	snprintf(text, sizeof(text), "0x%" PRIx64, value);
	rte_tel_data_add_dict_string(d, name, text);
}

static uint64_t
pair_of(uint32_t low, uint32_t high, unsigned int i, unsigned int stride)
{
	return reg(&card.nic, low, i, stride) | (uint64_t)reg(&card.nic, high, i, stride) << 32;
}

/* /nic82599/filters: addresses and VLANs with the set of their pools */
static int
show_filters(const char *command, const char *params, struct rte_tel_data *d)
{
	unsigned int i;

	RTE_SET_USED(command);
	RTE_SET_USED(params);
	rte_tel_data_start_dict(d);
	rte_spinlock_lock(&card.nic.lock);
	for (i = 0; i < 128; i++) {
		uint64_t mac = pair_of(RAL, RAH, i, 8);
		char name[20];

		if (!(mac >> 32 & RAH_AV))
			continue;
		snprintf(name, sizeof(name), "mac_%02x%02x%02x%02x%02x%02x", (uint8_t)mac,
			(uint8_t)(mac >> 8), (uint8_t)(mac >> 16), (uint8_t)(mac >> 24),
			(uint8_t)(mac >> 32), (uint8_t)(mac >> 40));
		add_hex(d, name, pair_of(MPSAR_LO, MPSAR_HI, i, 8));
	}
	for (i = 0; i < 64; i++) {
		uint32_t vlvf = reg(&card.nic, PFVLVF, i, 4);
		char name[20];

		if (!(vlvf & PFVLVF_VI_EN))
			continue;
		snprintf(name, sizeof(name), "vlan_%u", vlvf & 0xfff);
		add_hex(d, name, pair_of(PFVLVFB, PFVLVFB + 4, i, 8));
	}
	rte_spinlock_unlock(&card.nic.lock);
	return 0;
}

/*
 * /nic82599/queues: frames of each queue that had some: rx_N, tx_N; how many were looped back, and
 * segmented
 */
static int
show_queues(const char *command, const char *params, struct rte_tel_data *d)
{
	unsigned int i;
	char name[20];

	RTE_SET_USED(command);
	RTE_SET_USED(params);
	rte_tel_data_start_dict(d);
	rte_spinlock_lock(&card.nic.lock);
	rte_tel_data_add_dict_u64(d, "looped_back", card.nic.looped_back);
	rte_tel_data_add_dict_u64(d, "segmented", card.nic.segmented);
	for (i = 0; i < NIC_QUEUES; i++) {
		if (card.nic.rx_frames[i] > 0) {
			snprintf(name, sizeof(name), "rx_%u", i);
			rte_tel_data_add_dict_u64(d, name, card.nic.rx_frames[i]);
		}
		if (card.nic.tx_frames[i] > 0) {
			snprintf(name, sizeof(name), "tx_%u", i);
			rte_tel_data_add_dict_u64(d, name, card.nic.tx_frames[i]);
		}
	}
	rte_spinlock_unlock(&card.nic.lock);
	return 0;
}

/* The registers that tell how the card is set up. */
static int
show_mode(const char *command, const char *params, struct rte_tel_data *d)
{
	uint64_t broadcast = 0, strip[2] = { 0, 0 };
	unsigned int i;

	RTE_SET_USED(command);
	RTE_SET_USED(params);
	rte_spinlock_lock(&card.nic.lock);
	for (i = 0; i < NIC_POOLS; i++) {
		if (reg(&card.nic, PFVML2FLT, i, 4) & PFVML2FLT_BAM)
			broadcast |= UINT64_C(1) << i;
	}
	for (i = 0; i < NIC_QUEUES; i++) {
		if (*rxq(&card.nic, i, RXDCTL) & RXDCTL_VME)
			strip[i / 64] |= UINT64_C(1) << i % 64;
	}
	rte_tel_data_start_dict(d);
	add_hex(d, "mrqc", card.nic.reg[MRQC / 4]);
	add_hex(d, "mtqc", card.nic.reg[MTQC / 4]);
	add_hex(d, "pfvtctl", card.nic.reg[PFVTCTL / 4]);
	add_hex(d, "pfdtxgswc", card.nic.reg[PFDTXGSWC / 4]);
	add_hex(d, "rtrup2tc", card.nic.reg[RTRUP2TC / 4]);
	add_hex(d, "fctrl", card.nic.reg[FCTRL / 4]);
	add_hex(d, "broadcast_pools", broadcast);
	add_hex(d, "strip_queues_0_63", strip[0]);
	add_hex(d, "strip_queues_64_127", strip[1]);
	rte_spinlock_unlock(&card.nic.lock);
	return 0;
}

/* How the driver wrote: whether it has used MOVDIRI. */
static int
show_doorbells(const char *command, const char *params, struct rte_tel_data *d)
{
	RTE_SET_USED(command);
	RTE_SET_USED(params);
	rte_tel_data_start_dict(d);
	rte_tel_data_add_dict_u64(d, "movdiri", mmio_direct_stores());
	return 0;
}

/* /nic82599/link,0 pulls the cable, /nic82599/link,1 plugs it in. */
static int
set_link(const char *command, const char *params, struct rte_tel_data *d)
{
	RTE_SET_USED(command);
	if (params == NULL || (strcmp(params, "0") != 0 && strcmp(params, "1") != 0))
		return -EINVAL;
	rte_spinlock_lock(&card.nic.lock);
	link_set(&card.nic, params[0] == '1');
	rte_spinlock_unlock(&card.nic.lock);
	rte_tel_data_start_dict(d);
	rte_tel_data_add_dict_string(d, "link", params[0] == '1' ? "up" : "down");
	return 0;
}

/* The vdev. */

static int
keep_string(const char *key, const char *value, void *out)
{
	RTE_SET_USED(key);
	*(char **)out = strdup(value);
	return 0;
}

static int
parse_args(const char *args, char **wire, char **link)
{
	static const char *const keys[] = { "wire", "link", NULL };
	struct rte_kvargs *kv = rte_kvargs_parse(args, keys);
	int ret;

	if (kv == NULL)
		return -EINVAL;
	ret = rte_kvargs_process(kv, "wire", keep_string, wire);
	if (ret == 0)
		ret = rte_kvargs_process(kv, "link", keep_string, link);
	rte_kvargs_free(kv);
	return *wire == NULL ? -EINVAL : ret;
}

static int
probe(struct rte_vdev_device *dev)
{
	struct rte_bus *bus = rte_bus_find_by_name("pci");
	struct rte_pci_driver *driver = find_ixgbe(bus);
	char *wire = NULL, *link = NULL;
	int ret;

	if (driver == NULL || card.pool != NULL) {
		LOG(ERR, "%s\n",
			driver == NULL ? "there is no ixgbe PMD" : "there is one card only");
		return -ENODEV;
	}
	ret = parse_args(rte_vdev_device_args(dev), &wire, &link);
	if (ret < 0) {
		LOG(ERR, "takes wire=PORT,link=0|1\n");
		return ret;
	}
	memcpy(card.nic.mac, "\x02\x00\x00\x82\x59\x09", 6);
	card.nic.cable = link == NULL || strcmp(link, "0") != 0;
	card.nic.send = send_to_wire;
	rte_spinlock_init(&card.nic.lock);
	nic_reset(&card.nic);
	/* The thread of the wire reads it. */
	ret = socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, card.irq);
	if (ret < 0)
		ret = -errno;
	card.nic.irq_fd = card.irq[1];
	if (ret == 0)
		ret = start_wire(wire);
	if (ret == 0)
		ret = plug_in(bus, driver);
	if (ret == 0)
		ret = rte_eth_dev_get_port_by_name(card.pci.name, &card.port);
	if (ret == 0)
		rte_eth_dev_callback_register(card.port, RTE_ETH_EVENT_DESTROY, on_port_closed,
			NULL);
	else
		stop_wire();
	free(wire);
	free(link);
	return ret;
}

static int
unplug(struct rte_vdev_device *dev)
{
	RTE_SET_USED(dev);
	stop_wire();
	return 0;
}

static struct rte_vdev_driver nic82599 = { .probe = probe, .remove = unplug };

RTE_PMD_REGISTER_VDEV(nic82599, nic82599);
RTE_PMD_REGISTER_PARAM_STRING(nic82599, "wire=<ethdev> link=0|1");

RTE_INIT(register_telemetry)
{
	rte_telemetry_register_cmd("/nic82599/filters", show_filters,
		"MAC and VLAN filters of the modelled card, each with the set of its pools.");
	rte_telemetry_register_cmd("/nic82599/queues", show_queues,
		"Frames by queue of the modelled card, queues without any left out.");
	rte_telemetry_register_cmd("/nic82599/mode", show_mode,
		"Registers of the modelled card that say how it splits traffic.");
	rte_telemetry_register_cmd("/nic82599/doorbells", show_doorbells,
		"Writes to the modelled card by MOVDIRI.");
	rte_telemetry_register_cmd("/nic82599/link", set_link,
		"Pull (0) or plug in (1) the cable of the modelled card.");
}
