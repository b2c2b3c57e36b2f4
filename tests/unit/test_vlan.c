/* SPDX-License-Identifier: BSD-3-Clause */
#include <string.h>

#include "uplink/vlan.h"
#include "unit.h"

static struct rte_mempool *pool;

static int
create(void **state)
{
	if (start_eal(state) != 0)
		return -1;
	pool = rte_pktmbuf_pool_create("p", 63, 0, 0, RTE_MBUF_DEFAULT_BUF_SIZE, 0);
	return pool == NULL;
}

static struct rte_mbuf *
frame(const char *ethertype_and_payload, size_t len)
{
	struct rte_mbuf *m = rte_pktmbuf_alloc(pool);

	memcpy(rte_pktmbuf_append(m, 12), "ddddddssssss", 12);
	memcpy(rte_pktmbuf_append(m, (uint16_t)len), ethertype_and_payload, len);
	return m;
}

#define FRAME(text) frame(text, sizeof(text) - 1)

static void
expect(const struct rte_mbuf *m, const char *text, size_t len)
{
	assert_int_equal(m->pkt_len, len);
	assert_memory_equal(rte_pktmbuf_mtod(m, char *), text, len);
}

#define EXPECT(m, text) expect(m, text, sizeof(text) - 1)

static void
test_insert_and_strip(void **state)
{
	struct rte_mbuf *m = FRAME("\x08\x00payload");
	uint16_t tci;

	(void)state;
	assert_false(vlan_in_frame(m));
	assert_false(vlan_of_received(m, &tci));
	assert_int_equal(vlan_insert(&m, 1003, false), 0);
	EXPECT(m, "ddddddssssss\x81\x00\x03\xeb\x08\x00payload");
	assert_true(vlan_of_received(m, &tci));
	assert_int_equal(tci, 1003);
	m->ol_flags = 0; /* as a NIC would bring it in */
	vlan_strip(m);
	EXPECT(m, "ddddddssssss\x08\x00payload");
	rte_pktmbuf_free(m);
}

static void
test_insert_by_nic_leaves_the_frame(void **state)
{
	struct rte_mbuf *m = FRAME("\x08\x00payload");

	(void)state;
	assert_int_equal(vlan_insert(&m, 1003, true), 0);
	EXPECT(m, "ddddddssssss\x08\x00payload");
	assert_int_equal(m->vlan_tci, 1003);
	assert_true(m->ol_flags & RTE_MBUF_F_TX_VLAN);
	rte_pktmbuf_free(m);
}

static void
test_replace_keeps_priority(void **state)
{
	struct rte_mbuf *m = FRAME("\x81\x00\xb0\x07\x08\x00payload");

	(void)state;
	vlan_replace(m, 1003);
	EXPECT(m, "ddddddssssss\x81\x00\xb3\xeb\x08\x00payload");
	rte_pktmbuf_free(m);
}

static void
test_stripped_by_nic(void **state)
{
	struct rte_mbuf *m = FRAME("\x08\x00payload");
	uint16_t tci = 0;

	(void)state;
	m->ol_flags = RTE_MBUF_F_RX_VLAN | RTE_MBUF_F_RX_VLAN_STRIPPED;
	m->vlan_tci = 0xb3eb;
	assert_true(vlan_of_received(m, &tci));
	assert_int_equal(tci, 0xb3eb);
	vlan_strip(m);
	EXPECT(m, "ddddddssssss\x08\x00payload");
	rte_pktmbuf_free(m);
}

static void
test_cut_tag_is_none(void **state)
{
	struct rte_mbuf *m = FRAME("\x81\x00\x03"); /* ends inside the tag */
	uint16_t tci;

	(void)state;
	assert_false(vlan_in_frame(m));
	assert_false(vlan_of_received(m, &tci));
	rte_pktmbuf_free(m);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_insert_and_strip),
		cmocka_unit_test(test_insert_by_nic_leaves_the_frame),
		cmocka_unit_test(test_replace_keeps_priority),
		cmocka_unit_test(test_stripped_by_nic),
		cmocka_unit_test(test_cut_tag_is_none),
	};

	return cmocka_run_group_tests(tests, create, NULL);
}
