/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * vhost-switch: a virtual Ethernet switch between the virtio-net devices of guests and a NIC port.
 *
 * This file is start-up and shut-down, in order. What a frame goes through is in switch/.
 */
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <rte_eal.h>
#include <rte_errno.h>
#include <rte_launch.h>
#include <rte_lcore.h>
#include <rte_malloc.h>
#include <rte_mbuf.h>
#include <rte_version.h>

#include "cli/options.h"
#include "cli/ports.h"
#include "control/control.h"
#include "control/reload.h"
#include "control/stats.h"
#include "cuse/cuse.h"
#include "log/log.h"
#include "main.h"
#include "port/guest.h"
#include "process/capture.h"
#include "process/process.h"
#include "switch/mirror.h"
#include "switch/offload.h"
#include "switch/worker.h"
#include "thread.h"
#include "uplink/uplink.h"
#include "vhost/memory.h"
#include "vhost/socket.h"

/* mbufs that each lcore's mempool cache may keep; the cache flushes at 1.5 times this. */
#define MBUF_CACHE 256

/* Addresses in the FDB: of guests that left some wait for their grace period. */
#define ADDRESSES (2 * GUEST_MAX)
#define ADDRESSES_NAMED 65536

int log_type_config, log_type_data, log_type_uplink;

/* The whole program: every long-lived object has its place here. */
static struct {
	struct config cfg;
	struct ports_config *ports; /* until the guest table has them */
	struct uplink uplink;
	struct uplink_plan plan;
	struct mirror mirror;
	struct guests guests;
	struct switch_ctx sw;
	struct worker *workers[RTE_MAX_LCORE];
	unsigned int nb_workers;
	struct port_ops port_ops;
	struct stats_source stats;
	struct control control;
} app;

static void
register_log_types(void)
{
	log_type_config = rte_log_register_type_and_pick_level("vhost-switch.config", RTE_LOG_INFO);
	log_type_data = rte_log_register_type_and_pick_level("vhost-switch.data", RTE_LOG_INFO);
	log_type_uplink = rte_log_register_type_and_pick_level("vhost-switch.uplink", RTE_LOG_INFO);
}

/*
 * What comes before anything else, since it is about descriptors and threads that are made later.
 */
static int
prepare_process(int argc, char **argv)
{
	int ret = process_open_descriptors();

	if (ret < 0)
		return ret;
	process_raise_limits();
	/*
	 * Blocked before any thread is there, signals interrupt none, and wait for the control
	 * loop.
	 */
	ret = process_catch_signals();
	if (ret < 0)
		return ret;
	app.control.signal_fd = ret;
	return log_open(argc, argv);
}

static int
create_workers(void)
{
	bool alone = rte_lcore_count() == 1;
	unsigned int lcore;

	RTE_LCORE_FOREACH(lcore) {
		struct worker *w;

		if (lcore == rte_get_main_lcore() && !alone)
			continue;
		w = rte_zmalloc_socket("worker", sizeof(*w), RTE_CACHE_LINE_SIZE,
			(int)rte_lcore_to_socket_id(lcore));
		if (w == NULL)
			return -ENOMEM;
		w->index = app.nb_workers;
		w->lcore = lcore;
		w->sw = &app.sw;
		app.workers[app.nb_workers++] = w;
	}
	return 0;
}

/*
 * Enough mbufs for the worst moment: all descriptors of the port filled, and each worker with its
 * batches full, one burst more in hand (of 64 KiB frames with --tso, and a burst of segments)
 * and its cache full. A guest holds none: its frames are copied.
 */
static uint32_t
mbufs_needed(void)
{
	uint32_t burst = BURST_MAX;
	uint32_t segments = 0;

	if (app.cfg.tso || config_has_ports(&app.cfg)) {
		burst *= 65536 / RTE_MBUF_DEFAULT_DATAROOM + 2;
		segments = OFFLOAD_MBUFS_MAX;
	} else if (app.cfg.mergeable) {
		burst *= 9216 / RTE_MBUF_DEFAULT_DATAROOM + 2;
	}
	return uplink_mbufs(&app.uplink) + mirror_mbufs(&app.mirror) +
		(app.nb_workers + 1) * (BUFFERED_MAX + 2 * burst + segments + MBUF_CACHE * 3 / 2);
}

/* The least pool that works: the ports' rings are full, and so is each worker's cache. */
static uint32_t
mbufs_least(uint32_t rings)
{
	return rings + app.nb_workers * (2 * BURST_MAX + MBUF_CACHE * 3 / 2);
}

/* n: mbufs in the pool; rings: those in rings of ports. Without ports any pool will do. */
static int
check_size(uint32_t n, uint32_t rings)
{
	if (rings == 0 || n >= mbufs_least(rings))
		return 0;
	fprintf(stderr, "vhost-switch: --total-num-mbufs must be at least %u here, not %u: rings "
		"of ports hold up to %u\n", mbufs_least(rings), n, rings);
	return -EINVAL;
}

/* Some drivers take more than their rings are long. */
static int
check_rest(void)
{
	uint32_t n = app.sw.pool->size;

	return check_size(n, n - rte_mempool_avail_count(app.sw.pool));
}

static int
create_pools(void)
{
	uint32_t n = app.cfg.total_num_mbufs ? app.cfg.total_num_mbufs : mbufs_needed();

	if (check_size(n, uplink_mbufs(&app.uplink) + mirror_mbufs(&app.mirror)) < 0)
		return -EINVAL;
	app.sw.pool = rte_pktmbuf_pool_create("mbufs", n, MBUF_CACHE, 0, RTE_MBUF_DEFAULT_BUF_SIZE,
		(int)rte_socket_id());
	if (app.sw.pool == NULL) {
		RTE_LOG(ERR, CONFIG, "no memory for %u mbufs: %s (more hugepages, or a smaller "
			"--total-num-mbufs?)\n", n, rte_strerror(rte_errno));
		return -ENOMEM;
	}
	RTE_LOG(INFO, CONFIG, "%u mbufs, %u workers, vm2vm %u\n", n, app.nb_workers, app.cfg.vm2vm);
	return 0;
}

static struct rte_rcu_qsbr *
create_rcu(void)
{
	size_t size = rte_rcu_qsbr_get_memsize(app.nb_workers);
	struct rte_rcu_qsbr *v = rte_zmalloc("rcu", size, RTE_CACHE_LINE_SIZE);
	unsigned int i;

	if (v == NULL)
		return NULL;
	rte_rcu_qsbr_init(v, app.nb_workers);
	for (i = 0; i < app.nb_workers; i++)
		rte_rcu_qsbr_thread_register(v, i);
	return v;
}

/* Everything that workers, guests and statistics need, before any of them is there. */
static int
create_switch(void)
{
	unsigned int i;
	int ret;

	ret = create_workers();
	if (ret == 0)
		ret = uplink_open(&app.uplink, &app.plan, &app.cfg, app.nb_workers);
	if (ret == 0)
		ret = mirror_open(&app.mirror, &app.cfg);
	if (ret == 0)
		ret = create_pools();
	if (ret == 0) {
		app.sw.rcu = create_rcu();
		ret = app.sw.rcu != NULL ? 0 : -ENOMEM;
	}
	if (ret == 0)
		ret = guests_init(&app.guests, app.nb_workers, app.uplink.guest_limit);
	if (ret < 0)
		return ret;
	app.guests.ports.in_use = config_has_ports(&app.cfg);
	app.guests.fdb = fdb_create(app.guests.ports.in_use ? ADDRESSES_NAMED : ADDRESSES);
	app.guests.uplink = &app.uplink;
	app.guests.rcu = app.sw.rcu;
	for (i = 0; i < app.nb_workers; i++)
		app.guests.counters[i] = &app.workers[i]->counters;
	app.port_ops = (struct port_ops){ guests_start, guests_leave, guests_check_rings,
		&app.guests, app.sw.rcu, app.guests.wake_fd };
	app.sw.cfg = &app.cfg;
	app.sw.guests = &app.guests;
	app.sw.uplink = &app.uplink;
	app.sw.mirror = &app.mirror;
	app.sw.finishes = app.cfg.tx_csum || app.guests.ports.in_use;
	app.control.cfg = &app.cfg;
	app.control.guests = &app.guests;
	app.control.uplink = &app.uplink;
	app.control.mirror = &app.mirror;
	app.control.stats = &app.stats;
	app.control.stop = &app.sw.stop;
	app.stats = (struct stats_source){ &app.guests, &app.uplink, &app.mirror, &app.cfg,
		app.workers, app.nb_workers };
	return app.guests.fdb == NULL ? -ENOMEM : telemetry_init(&app.stats);
}

/*
 * Threads that were there before EAL get the CPUs of EAL's control threads, as this one has them.
 */
static void *
move_threads(void *arg)
{
	log_move();
	return arg;
}

static int
place_threads(void)
{
	pthread_t thread;
	int ret = start_control_thread(&thread, "place", move_threads, NULL);

	if (ret == 0)
		pthread_join(thread, NULL);
	return -ret;
}

/* Switch until a signal comes. */
static int
run(void)
{
	pthread_t thread;
	unsigned int i;
	int ret;

	process_ignore_others();
	log_limit_all();
	process_notify("READY=1");
	for (i = 0; i < app.nb_workers; i++)
		RTE_LOG(INFO, DATA, "worker %u runs on lcore %u\n", i, app.workers[i]->lcore);
	if (app.workers[0]->lcore == rte_get_main_lcore()) {
		ret = start_control_thread(&thread, "control", control_run, &app.control);
		if (ret != 0) {
			RTE_LOG(ERR, CONFIG, "cannot start the control loop: %s\n", strerror(ret));
			return -ret;
		}
		worker_run(app.workers[0]);
		pthread_join(thread, NULL);
		return 0;
	}
	for (i = 0; i < app.nb_workers; i++)
		rte_eal_remote_launch(worker_run, app.workers[i], app.workers[i]->lcore);
	control_run(&app.control);
	rte_eal_mp_wait_lcore();
	return 0;
}

/* When all is stopped no mbuf may be missing, but those that drivers keep. */
static int
check_pool(const struct rte_mempool *pool, uint32_t kept)
{
	unsigned int in = rte_mempool_avail_count(pool);

	if (in + kept >= pool->size) {
		RTE_LOG(INFO, CONFIG, "all %u mbufs are back in pool %s\n", pool->size, pool->name);
		return 0;
	}
	in += kept;
	RTE_LOG(ERR, CONFIG, "%u of %u mbufs are missing in pool %s\n", pool->size - in, pool->size,
		pool->name);
	return -EBUSY;
}

/* The way back, from wherever start-up got to. Workers have ended. */
static int
tear_down(void)
{
	uint32_t kept;
	unsigned int i;
	int ret = 0;

	telemetry_stop();
	if (app.guests.all != NULL)
		guests_close(&app.guests);
	cuse_close();
	sockets_close();
	kept = uplink_close(&app.uplink);
	kept += mirror_close(&app.mirror);
	if (app.sw.pool != NULL)
		ret = check_pool(app.sw.pool, kept);
	if (app.guests.all != NULL)
		guests_free(&app.guests);
	ports_free(app.ports);
	fdb_free(app.guests.fdb);
	rte_free(app.sw.rcu);
	for (i = 0; i < app.nb_workers; i++)
		rte_free(app.workers[i]);
	rte_mempool_free(app.sw.pool);
	return ret;
}

/* Named ports, which belong to the guest table from now on. */
static int
start_ports(void)
{
	struct ports_config *ports = app.ports;

	app.ports = NULL;
	return ports != NULL ? reload_first(&app.guests, ports) : 0;
}

static int
start(void)
{
	int ret = create_switch();

	if (ret == 0)
		ret = control_open(&app.control, app.cfg.stats_period);
	if (ret == 0)
		ret = mirror_start(&app.mirror, app.sw.pool);
	if (ret == 0)
		ret = uplink_start(&app.uplink, &app.plan, &app.cfg, app.sw.pool);
	if (ret == 0)
		ret = check_rest();
	if (ret == 0)
		ret = sockets_open(&app.cfg, &app.port_ops);
	if (ret == 0)
		ret = start_ports();
	if (ret == 0)
		ret = cuse_open(&app.cfg);
	return ret;
}

static int
load_ports(void)
{
	struct error_line error;
	int ret = -EINVAL;
	unsigned int i;

	if (!config_has_ports(&app.cfg))
		return 0;
	app.ports = ports_load(&app.cfg, &error);
	for (i = 0; app.ports != NULL && i < app.ports->n; i++)
		app.cfg.has_untagged |= port_in_domain(&app.ports->port[i], 0);
	if (app.ports != NULL)
		ret = sockets_check_ports(&app.cfg, app.ports, NULL, &error);
	if (ret < 0)
		fprintf(stderr, "vhost-switch: %s\n", error.text);
	if (app.cfg.config_file != NULL)
		process_reload_on_hangup();
	return ret;
}

#ifdef VHOST_CUSE
#define WITH_CUSE "with CUSE"
#else
#define WITH_CUSE "without CUSE"
#endif

/* What there is to say without EAL: true if the command line asked for it. */
static bool
print_and_exit(bool help, bool version, const char *program)
{
	if (help)
		options_usage(stdout, program);
	else if (version)
		printf("vhost-switch %s\n%s\n%s\n", SWITCH_VERSION, rte_version(), WITH_CUSE);
	return help || version;
}

/*
 * --help and --version among EAL's options ask for this program's, since EAL's own usage does not
 * mention it.
 */
static bool
has_argument(int argc, char **argv, const char *name)
{
	int i;

	for (i = 1; i < argc; i++) {
		if (strcmp(argv[i], name) == 0)
			return true;
	}
	return false;
}

int
main(int argc, char **argv)
{
	int split = options_find(argc, argv);
	int ret;

	if (prepare_process(argc, argv) < 0)
		return EXIT_FAILURE;
	if (print_and_exit(has_argument(split, argv, "--help") || has_argument(split, argv, "-h"),
			has_argument(split, argv, "--version"), argv[0]))
		return EXIT_SUCCESS;
	if (split == argc) {
		char *none[] = { argv[0], NULL };

		ret = options_parse(1, none, &app.cfg);
	} else {
		ret = options_parse(argc - split, argv + split, &app.cfg);
	}
	if (ret == 0 && print_and_exit(app.cfg.help, app.cfg.version, argv[0]))
		return EXIT_SUCCESS;
	if (ret < 0 || cuse_prepare(&app.cfg) < 0 || sockets_check(&app.cfg) < 0 ||
			load_ports() < 0)
		return EXIT_FAILURE;

	register_log_types();
	ret = rte_eal_init(split, argv);
	if (ret < 0) {
		fprintf(stderr, "vhost-switch: EAL cannot start: %s\n", rte_strerror(rte_errno));
		return EXIT_FAILURE;
	}
	/*
	 * For dpdk-dumpcap. Without memory that it can share it cannot come, which is not an error.
	 */
	ret = capture_open();
	if (ret < 0)
		RTE_LOG(INFO, CONFIG, "no capture by dpdk-dumpcap: %s\n", rte_strerror(-ret));
	ret = memory_init();
	if (ret == 0)
		ret = place_threads();
	if (ret == 0)
		ret = start();
	if (ret == 0) {
		ret = run();
	} else {
		process_lacks_descriptors(-ret);
		RTE_LOG(ERR, CONFIG, "not started: %s\n", strerror(-ret));
	}
	if (tear_down() < 0)
		ret = -EBUSY;
	capture_close();
	log_report(true);
	rte_eal_cleanup();
	return ret == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
