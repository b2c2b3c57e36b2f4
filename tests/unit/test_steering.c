/* SPDX-License-Identifier: BSD-3-Clause */
/* How a port is planned from what it says of itself: made-up rte_eth_dev_info, no port. */
#include <errno.h>
#include <string.h>

#include "uplink/uplink.h"
#include "unit.h"

static struct uplink up;
static struct uplink_plan plan;
static struct config cfg;

static int
reset(void **state)
{
	(void)state;
	memset(&up, 0, sizeof(up));
	memset(&plan, 0, sizeof(plan));
	memset(&cfg, 0, sizeof(cfg));
	cfg.vm2vm = VM2VM_SOFTWARE;
	up.vlan_strip = true;
	plan.info.driver_name = "net_made_up";
	plan.info.rx_offload_capa = RTE_ETH_RX_OFFLOAD_VLAN_STRIP;
	return 0;
}

/* The numbers of an 82599: ixgbe_dev_info_get(). */
static void
test_vmdq_82599(void **state)
{
	const struct rte_eth_vmdq_rx_conf *vmdq = &plan.conf.rx_adv_conf.vmdq_rx_conf;
	struct uplink_queues q;
	unsigned int i;

	(void)state;
	plan.info.max_rx_queues = 128;
	plan.info.max_vmdq_pools = 64;
	plan.info.vmdq_queue_num = 128;
	assert_int_equal(steering_vmdq.plan(&up, &cfg, &plan), 0);
	up.nb_rxq = plan.nb_rxq;
	assert_int_equal(plan.guest_limit, 64);
	assert_int_equal(plan.nb_rxq, 128);
	assert_int_equal(plan.conf.rxmode.mq_mode, RTE_ETH_MQ_RX_VMDQ_ONLY);
	assert_int_equal(plan.conf.rxmode.offloads, RTE_ETH_RX_OFFLOAD_VLAN_STRIP);
	assert_int_equal(vmdq->nb_queue_pools, RTE_ETH_64_POOLS);
	assert_int_equal(vmdq->nb_pool_maps, 64);
	for (i = 0; i < 64; i++) {
		assert_int_equal(vmdq->pool_map[i].vlan_id, 1000 + i);
		assert_int_equal(vmdq->pool_map[i].pools, RTE_BIT64(i));
	}
	assert_true(vmdq->rx_mode & RTE_ETH_VMDQ_ACCEPT_BROADCAST);
	assert_true(vmdq->rx_mode & RTE_ETH_VMDQ_ACCEPT_MULTICAST);
	q = uplink_guest_queues(&up, 63);
	assert_int_equal(q.first, 126);
	assert_int_equal(q.count, 2);
	assert_int_equal(uplink_common_queues(&up).count, 0);
}

static void
test_vmdq_eight_pools_of_one_queue(void **state)
{
	(void)state;
	plan.info.max_rx_queues = 8;
	plan.info.max_vmdq_pools = 8;
	plan.info.vmdq_queue_num = 8;
	assert_int_equal(steering_vmdq.plan(&up, &cfg, &plan), 0);
	assert_int_equal(plan.guest_limit, 8);
	assert_int_equal(uplink_guest_queues(&up, 5).first, 5);
	assert_int_equal(uplink_guest_queues(&up, 5).count, 1);
}

static void
test_vmdq_behind_pf_queues(void **state)
{
	(void)state;
	plan.info.max_rx_queues = 192;
	plan.info.max_vmdq_pools = 32;
	plan.info.vmdq_queue_base = 64;
	plan.info.vmdq_queue_num = 128;
	plan.info.vmdq_pool_base = 1;
	up.vlan_strip = false;
	assert_int_equal(steering_vmdq.plan(&up, &cfg, &plan), 0);
	up.nb_rxq = plan.nb_rxq;
	assert_int_equal(plan.nb_rxq, 192);
	assert_int_equal(plan.conf.rxmode.offloads, 0);
	assert_int_equal(uplink_guest_queues(&up, 1).first, 68);
	assert_int_equal(uplink_guest_queues(&up, 1).count, 4);
	assert_int_equal(up.first_pool, 1);
	assert_int_equal(uplink_common_queues(&up).first, 0);
	assert_int_equal(uplink_common_queues(&up).count, 64);
}

static void
test_vmdq_without_queues_is_refused(void **state)
{
	(void)state;
	plan.info.max_vmdq_pools = 64;
	plan.info.vmdq_queue_num = 8;
	assert_int_equal(steering_vmdq.plan(&up, &cfg, &plan), -ENOTSUP);
}

static void
test_software(void **state)
{
	(void)state;
	plan.info.max_rx_queues = 1;
	assert_int_equal(steering_software.plan(&up, &cfg, &plan), 0);
	up.nb_rxq = plan.nb_rxq;
	assert_int_equal(plan.guest_limit, GUEST_MAX);
	assert_int_equal(uplink_guest_queues(&up, 3).count, 0);
	assert_int_equal(uplink_common_queues(&up).first, 0);
	assert_int_equal(uplink_common_queues(&up).count, 1);
}

static void
test_software_has_no_loopback_and_no_classes(void **state)
{
	(void)state;
	cfg.vm2vm = VM2VM_HARDWARE;
	assert_int_equal(steering_software.plan(&up, &cfg, &plan), -ENOTSUP);
	cfg.vm2vm = VM2VM_SOFTWARE;
	cfg.dcb = 4;
	assert_int_equal(steering_software.plan(&up, &cfg, &plan), -ENOTSUP);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(test_vmdq_82599, reset),
		cmocka_unit_test_setup(test_vmdq_eight_pools_of_one_queue, reset),
		cmocka_unit_test_setup(test_vmdq_behind_pf_queues, reset),
		cmocka_unit_test_setup(test_vmdq_without_queues_is_refused, reset),
		cmocka_unit_test_setup(test_software, reset),
		cmocka_unit_test_setup(test_software_has_no_loopback_and_no_classes, reset),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
