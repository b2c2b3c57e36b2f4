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
	plan.info.driver_name = "net_made_up";
	return 0;
}

/* The numbers of an 82599: ixgbe_dev_info_get(). */
static void
make_82599(void)
{
	plan.info.driver_name = "net_ixgbe";
	plan.info.max_rx_queues = 128;
	plan.info.max_tx_queues = 64; /* that is without VMDQ */
	plan.info.max_vmdq_pools = 64;
	plan.info.vmdq_queue_num = 128;
	plan.info.max_mac_addrs = 128;
	plan.has_dcb = plan.has_loopback = true;
}

static void
test_vmdq_82599(void **state)
{
	const struct rte_eth_vmdq_rx_conf *vmdq = &plan.conf.rx_adv_conf.vmdq_rx_conf;
	struct uplink_queues q;
	unsigned int i;

	(void)state;
	make_82599();
	assert_int_equal(steering_vmdq.plan(&up, &cfg, &plan), 0);
	up.nb_rxq = plan.nb_rxq;
	assert_int_equal(plan.guest_limit, 64);
	assert_int_equal(plan.nb_rxq, 128);
	assert_int_equal(plan.conf.rxmode.mq_mode, RTE_ETH_MQ_RX_VMDQ_ONLY);
	assert_int_equal(plan.conf.txmode.mq_mode, RTE_ETH_MQ_TX_VMDQ_ONLY);
	assert_int_equal(plan.nb_txq, 0);
	assert_int_equal(uplink_tx_queue(&(struct uplink){ .nb_txq = 2 }, 3, 9, 7), 1);
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
test_vmdq_after_pf_queues(void **state)
{
	(void)state;
	plan.info.max_rx_queues = 192;
	plan.info.max_vmdq_pools = 32;
	plan.info.vmdq_queue_base = 64;
	plan.info.vmdq_queue_num = 128;
	plan.info.vmdq_pool_base = 1;
	plan.info.driver_name = "net_i40e";
	assert_int_equal(steering_vmdq.plan(&up, &cfg, &plan), 0);
	up.nb_rxq = plan.nb_rxq;
	assert_int_equal(plan.nb_rxq, 192);
	assert_int_equal(uplink_guest_queues(&up, 1).first, 68);
	assert_int_equal(uplink_guest_queues(&up, 1).count, 4);
	assert_int_equal(up.first_pool, 1);
	assert_int_equal(uplink_common_queues(&up).count, 0);
	assert_int_equal(uplink_pf_queues(&up).first, 0);
	assert_int_equal(uplink_pf_queues(&up).count, 64);
}

/* An 82576 as igb reports it: which of two queues serves a pool is not to be known. */
static void
test_vmdq_of_unknown_layout_listens_to_all_queues(void **state)
{
	uint16_t i;

	(void)state;
	plan.info.driver_name = "net_e1000_igb";
	plan.info.max_rx_queues = 16;
	plan.info.max_vmdq_pools = 8;
	plan.info.vmdq_queue_num = 16;
	assert_int_equal(steering_vmdq.plan(&up, &cfg, &plan), 0);
	assert_int_equal(plan.guest_limit, 8);
	for (i = 0; i < 8; i++)
		assert_int_equal(uplink_guest_queues(&up, i).count, 0);
	assert_int_equal(uplink_common_queues(&up).first, 0);
	assert_int_equal(uplink_common_queues(&up).count, 16);
	assert_int_equal(uplink_pf_queues(&up).count, 0);
}

static void
test_guests_are_limited_by_the_mac_filters(void **state)
{
	(void)state;
	make_82599();
	plan.info.max_mac_addrs = 16;
	assert_int_equal(steering_vmdq.plan(&up, &cfg, &plan), 0);
	assert_int_equal(plan.guest_limit, 15);
}

static void
test_loopback_transmits_by_the_senders_pool(void **state)
{
	(void)state;
	make_82599();
	cfg.vm2vm = VM2VM_HARDWARE;
	up.loopback = true;
	assert_int_equal(steering_vmdq.plan(&up, &cfg, &plan), 0);
	assert_int_equal(plan.nb_txq, 128);
	assert_int_equal(uplink_tx_queue(&up, 1, 0, 7), 0);
	assert_int_equal(uplink_tx_queue(&up, 0, 63, 0), 126);
	/* enable_loop_back would let a guest's own frames come back to it */
	assert_int_equal(plan.conf.rx_adv_conf.vmdq_rx_conf.enable_loop_back, 0);
}

static void
test_no_loopback_is_refused(void **state)
{
	(void)state;
	make_82599();
	plan.has_loopback = false;
	cfg.vm2vm = VM2VM_HARDWARE;
	assert_int_equal(steering_vmdq.plan(&up, &cfg, &plan), -ENOTSUP);
	cfg.dcb = 8;
	assert_int_equal(steering_dcb.plan(&up, &cfg, &plan), -ENOTSUP);
	cfg.vm2vm = VM2VM_UPLINK;
	assert_int_equal(steering_dcb.plan(&up, &cfg, &plan), 0);
}

static void
test_dcb_of_8_classes(void **state)
{
	const struct rte_eth_vmdq_dcb_conf *rx = &plan.conf.rx_adv_conf.vmdq_dcb_conf;
	unsigned int i;

	(void)state;
	make_82599();
	cfg.dcb = 8;
	assert_int_equal(steering_dcb.plan(&up, &cfg, &plan), 0);
	assert_int_equal(plan.guest_limit, 16);
	assert_int_equal(plan.nb_rxq, 128);
	assert_int_equal(plan.nb_txq, 128);
	assert_int_equal(plan.conf.rxmode.mq_mode, RTE_ETH_MQ_RX_VMDQ_DCB);
	assert_int_equal(plan.conf.txmode.mq_mode, RTE_ETH_MQ_TX_VMDQ_DCB);
	assert_int_equal(rx->nb_queue_pools, RTE_ETH_16_POOLS);
	assert_int_equal(rx->nb_pool_maps, 16);
	for (i = 0; i < 8; i++) {
		assert_int_equal(rx->dcb_tc[i], i);
		assert_int_equal(uplink_tx_queue(&up, 0, 3, i), 24 + i);
	}
	assert_int_equal(uplink_guest_queues(&up, 15).first, 120);
	assert_int_equal(uplink_guest_queues(&up, 15).count, 8);
	/* pool 0 is the default pool, so for everybody */
	assert_int_equal(uplink_guest_queues(&up, 0).count, 0);
	assert_int_equal(uplink_common_queues(&up).first, 0);
	assert_int_equal(uplink_common_queues(&up).count, 8);
}

static void
test_dcb_of_4_classes(void **state)
{
	static const uint8_t class_of[] = { 0, 0, 0, 0, 1, 2, 3, 4 };
	const struct rte_eth_vmdq_dcb_conf *rx = &plan.conf.rx_adv_conf.vmdq_dcb_conf;

	(void)state;
	make_82599();
	cfg.dcb = 4;
	assert_int_equal(steering_dcb.plan(&up, &cfg, &plan), 0);
	assert_int_equal(plan.guest_limit, 32);
	assert_int_equal(rx->nb_queue_pools, RTE_ETH_32_POOLS);
	assert_memory_equal(rx->dcb_tc, class_of, sizeof(class_of));
	assert_int_equal(uplink_guest_queues(&up, 31).first, 124);
	assert_int_equal(uplink_guest_queues(&up, 31).count, 4);
	assert_int_equal(uplink_tx_queue(&up, 0, 2, 6), 11);
	assert_int_equal(uplink_tx_queue(&up, 0, 2, 7), 11); /* never another pool's */
}

/* With named ports pool 0 is everybody's, and others have no filter until they have a guest. */
static void
test_assigned_pools(void **state)
{
	const struct rte_eth_vmdq_rx_conf *vmdq = &plan.conf.rx_adv_conf.vmdq_rx_conf;

	(void)state;
	make_82599();
	assert_int_equal(steering_assigned.plan(&up, &cfg, &plan), 0);
	assert_int_equal(plan.guest_limit, GUEST_MAX);
	assert_int_equal(up.nb_pools, 64);
	assert_int_equal(up.mac_filters, 127);
	assert_int_equal(vmdq->enable_default_pool, 1);
	assert_int_equal(vmdq->default_pool, 0);
	assert_int_equal(vmdq->nb_pool_maps, 0);
	assert_int_equal(vmdq->rx_mode, 0);
	assert_true(plan.conf.rxmode.offloads & RTE_ETH_RX_OFFLOAD_VLAN_FILTER);
	assert_int_equal(uplink_common_queues(&up).first, 0);
	assert_int_equal(uplink_common_queues(&up).count, 2);
	assert_int_equal(uplink_guest_queues(&up, 128).count, 0);
	up.pool_of[128] = 63;
	assert_int_equal(uplink_guest_queues(&up, 128).first, 126);
	assert_int_equal(uplink_guest_queues(&up, 128).count, 2);
	cfg.has_untagged = true;
	assert_int_equal(steering_assigned.plan(&up, &cfg, &plan), 0);
	assert_int_equal(vmdq->rx_mode, RTE_ETH_VMDQ_ACCEPT_UNTAG);
}

static void
test_assigned_pools_with_classes(void **state)
{
	(void)state;
	make_82599();
	cfg.dcb = 8;
	assert_int_equal(steering_assigned_dcb.plan(&up, &cfg, &plan), 0);
	assert_int_equal(up.nb_pools, 16);
	assert_int_equal(plan.nb_txq, 128);
	assert_int_equal(plan.conf.rx_adv_conf.vmdq_dcb_conf.nb_pool_maps, 0);
	assert_int_equal(plan.conf.rx_adv_conf.vmdq_dcb_conf.enable_default_pool, 1);
	assert_int_equal(uplink_common_queues(&up).count, 8);
	up.pool_of[639] = 15;
	assert_int_equal(uplink_guest_queues(&up, 639).first, 120);
	assert_int_equal(uplink_guest_queues(&up, 638).count, 0);
	assert_int_equal(uplink_tx_queue(&up, 1, 639, 7), 127);
	/* the default pool's, which are shared */
	assert_int_equal(uplink_tx_queue(&up, 1, 638, 7), 7);
	assert_true(up.txq_shared);
}

static void
test_dcb_is_refused_where_the_numbers_do_not_fit(void **state)
{
	(void)state;
	make_82599();
	cfg.dcb = 8;
	plan.info.vmdq_queue_num = 64;
	assert_int_equal(steering_dcb.plan(&up, &cfg, &plan), -ENOTSUP);
	make_82599();
	plan.info.max_vmdq_pools = 8;
	assert_int_equal(steering_dcb.plan(&up, &cfg, &plan), -ENOTSUP);
	make_82599();
	plan.has_dcb = false;
	assert_int_equal(steering_dcb.plan(&up, &cfg, &plan), -ENOTSUP);
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
		cmocka_unit_test_setup(test_vmdq_after_pf_queues, reset),
		cmocka_unit_test_setup(test_vmdq_of_unknown_layout_listens_to_all_queues, reset),
		cmocka_unit_test_setup(test_guests_are_limited_by_the_mac_filters, reset),
		cmocka_unit_test_setup(test_loopback_transmits_by_the_senders_pool, reset),
		cmocka_unit_test_setup(test_no_loopback_is_refused, reset),
		cmocka_unit_test_setup(test_dcb_of_8_classes, reset),
		cmocka_unit_test_setup(test_dcb_of_4_classes, reset),
		cmocka_unit_test_setup(test_assigned_pools, reset),
		cmocka_unit_test_setup(test_assigned_pools_with_classes, reset),
		cmocka_unit_test_setup(test_dcb_is_refused_where_the_numbers_do_not_fit, reset),
		cmocka_unit_test_setup(test_vmdq_without_queues_is_refused, reset),
		cmocka_unit_test_setup(test_software, reset),
		cmocka_unit_test_setup(test_software_has_no_loopback_and_no_classes, reset),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
